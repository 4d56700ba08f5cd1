//! Which of Trussed's backends serves which of the applications' requests.

use trussed::backend::{Backend as _, BackendId};
use trussed::platform::Platform;
use trussed::serde_extensions::{ExtensionDispatch, ExtensionId, ExtensionImpl};
use trussed::service::ServiceResources;
use trussed::types::Context;
use trussed_auth::AuthExtension;
use trussed_auth_backend::{AuthBackend, AuthContext, FilesystemLayout};
use trussed_chunked::ChunkedExtension;
use trussed_core::Error;
use trussed_core::api::{Reply, Request, reply, request};
use trussed_core::types::{Bytes, Location};
use trussed_hpke::HpkeExtension;
use trussed_rsa_alloc::SoftwareRsa;
use trussed_staging::{StagingBackend, StagingContext};
use trussed_wrap_key_to_file::WrapKeyToFileExtension;

pub const BACKENDS: &[BackendId<Backend>] =
    &[BackendId::Custom(Backend::Staging), BackendId::Custom(Backend::Auth), BackendId::Custom(Backend::Rsa), BackendId::Core];

#[derive(Clone, Copy)]
pub enum Backend {
    Auth,
    Staging,
    Rsa,
}

#[derive(Clone, Copy)]
pub enum Extension {
    Auth,
    WrapKeyToFile,
    Chunked,
    Hpke,
}

impl From<Extension> for u8 {
    fn from(extension: Extension) -> u8 {
        extension as u8
    }
}

impl TryFrom<u8> for Extension {
    type Error = Error;

    fn try_from(id: u8) -> Result<Extension, Error> {
        let all = [Extension::Auth, Extension::WrapKeyToFile, Extension::Chunked, Extension::Hpke];
        all.get(usize::from(id)).copied().ok_or(Error::InternalError)
    }
}

pub struct Dispatch {
    auth: AuthBackend,
    staging: StagingBackend,
}

impl Dispatch {
    pub fn new() -> Dispatch {
        let key = Bytes::try_from(&b"the key that hardware would have"[..]).expect("short");
        Dispatch { auth: AuthBackend::with_hw_key(Location::Internal, key, FilesystemLayout::V0), staging: StagingBackend::new() }
    }
}

#[derive(Default)]
pub struct Contexts {
    auth: AuthContext,
    staging: StagingContext,
}

impl ExtensionDispatch for Dispatch {
    type BackendId = Backend;
    type Context = Contexts;
    type ExtensionId = Extension;

    fn core_request<P: Platform>(
        &mut self,
        backend: &Backend,
        ctx: &mut Context<Contexts>,
        request: &Request,
        resources: &mut ServiceResources<P>,
    ) -> Result<Reply, Error> {
        match backend {
            Backend::Auth => self.auth.request(&mut ctx.core, &mut ctx.backends.auth, request, resources),
            Backend::Staging => self.staging.request(&mut ctx.core, &mut ctx.backends.staging, request, resources),
            Backend::Rsa => SoftwareRsa.request(&mut ctx.core, &mut (), request, resources),
        }
    }

    fn extension_request<P: Platform>(
        &mut self,
        backend: &Backend,
        extension: &Extension,
        ctx: &mut Context<Contexts>,
        request: &request::SerdeExtension,
        resources: &mut ServiceResources<P>,
    ) -> Result<reply::SerdeExtension, Error> {
        let core = &mut ctx.core;
        macro_rules! staging {
            ($extension:ident) => {
                ExtensionImpl::<$extension>::extension_request_serialized(
                    &mut self.staging,
                    core,
                    &mut ctx.backends.staging,
                    request,
                    resources,
                )
            };
        }
        match (backend, extension) {
            (Backend::Auth, Extension::Auth) => {
                self.auth.extension_request_serialized(core, &mut ctx.backends.auth, request, resources)
            }
            (Backend::Staging, Extension::WrapKeyToFile) => staging!(WrapKeyToFileExtension),
            (Backend::Staging, Extension::Chunked) => staging!(ChunkedExtension),
            (Backend::Staging, Extension::Hpke) => staging!(HpkeExtension),
            _ => Err(Error::RequestNotAvailable),
        }
    }
}

macro_rules! extensions {
    ($($extension:ident is $id:ident),*) => {
        $(impl ExtensionId<$extension> for Dispatch {
            type Id = Extension;
            const ID: Extension = Extension::$id;
        })*
    };
}

extensions!(AuthExtension is Auth, WrapKeyToFileExtension is WrapKeyToFile, ChunkedExtension is Chunked, HpkeExtension is Hpke);
