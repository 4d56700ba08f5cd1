//! The token process: has the secrets and never sees a byte of the artifact.
//!
//! The first half of this file runs in the monitor, [`run`] is the process itself.

pub mod cryptoki;
pub mod generate;
pub mod key;
pub mod login;
pub mod module;
pub mod pin;
pub mod queue;
pub mod server;
pub mod vouch;

use crate::channel::{self, Channel, ChannelError, after};
use crate::config;
use crate::config::uri::KeyUri;
use crate::config::values::Name;
use crate::limits::LimitError;
use crate::openpgp::{Public, Scheme};
use crate::process::{Child, Ending};
use crate::sandbox::{self, SandboxError, Surroundings};
use crate::state::StateError;
use crate::sys;
use crate::trusted::{self, TrustError};
use crate::warrant::mac::Question;
use cryptoki::{Cryptoki, CryptokiError};
use key::Private;
use module::Module;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::unistd::Pid;
use pin::{Marker, Pin};
use queue::Queue;
use serde::{Deserialize, Serialize};
use server::Server;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use toml::Spanned;

/// How long a token process may take to log out, once it has signed.
const LEAVE: Duration = Duration::from_secs(2);

/// How long a token may take to make a key: smartcards take minutes for RSA-4096.
const GENERATE: Duration = Duration::from_secs(600);

/// All that the process knows; it inherits this by the fork.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The token's name: that of its marker.
    pub name: &'a Name,
    /// The token.
    pub token: &'a config::Token,
    /// The keys in it.
    pub keys: &'a [&'a KeyUri],
    /// The state directory.
    pub state: &'a Path,
    /// The secret that the nonces of builds are derived from, where one is to be judged before anything else is done.
    pub mac_file: Option<&'a Path>,
}

/// What the monitor asks, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Is this MAC right? Once, and only where there is a file for it.
    Vouch(Question),
    /// Log in and find the keys: the last byte has come.
    Open,
    /// Sign this with the key of this index, as often as is asked.
    Sign(u8, Scheme, Vec<u8>),
    /// Log out.
    Leave,
}

/// What the token process answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Whether it is. The secret is wiped.
    Vouched(bool),
    /// The module is loaded and initialised. Comes by itself.
    Loaded,
    /// Logged in, and for each key exactly one found; what the token says of its public half. One message for each.
    Open(Option<Public>),
    /// The raw signature. They come in the order in which they were asked for.
    Signed(Vec<u8>),
    /// It did not work out, and the process leaves.
    Failed(Fault),
}

/// Why the token process cannot serve. Texts are the module's, cut and made printable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// A file that the token's table names could have been written by others.
    #[error("{0}")]
    Trust(Text),
    /// The PIN file or the state directory cannot be used.
    #[error("{0}")]
    Files(Text),
    /// The process cannot be confined.
    #[error("{0}")]
    Sandbox(Text),
    /// The module cannot be loaded or initialised, or fails.
    #[error("the module failed: {0}")]
    Module(Text),
    /// The uri selects this many tokens, and not one; and what a slot has failed with, where there is none.
    #[error("the token's uri selects {0} tokens instead of one{1}")]
    Tokens(usize, Text),
    /// CKR_PIN_INCORRECT.
    #[error("the PIN is wrong")]
    PinIncorrect,
    /// The PIN was wrong before, or an attempt was cut off: it is not tried again until its file changes.
    #[error("the PIN in this PIN file was wrong, or its first use failed; it is not tried again")]
    PinTried,
    /// The token says that few tries are left, or none.
    #[error("the token says that {0}; it is not tried")]
    PinLow(Text),
    /// Other sessions log in, one after the other, and the time was up.
    #[error("other sessions kept the token's login busy")]
    Busy,
    /// Its backlog was full for as long as one may wait, or it closed the connection before it said anything.
    #[error("the p11-kit server lets nobody more in, or does not start")]
    Full,
    /// Others have it for now.
    #[error("the token is in use: {0}")]
    Taken(Text),
    /// There is one already, and it is not replaced.
    #[error("the token already has a {0} key that this uri selects")]
    Exists(Text),
    /// The uri selects this many private keys, and not one.
    #[error("the key's uri selects {0} private keys instead of one")]
    Keys(usize),
    /// A post-quantum key is two, and one of them is missing; or there are two where the certificate's key is one.
    #[error("the key's uri selects half a post-quantum key, or one where its certificate has none")]
    Half,
}

impl From<TrustError> for Fault {
    fn from(error: TrustError) -> Fault {
        match error {
            TrustError::Open(..) | TrustError::Read(..) => Fault::Files(printable(&error)),
            error => Fault::Trust(printable(&error)),
        }
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Fault {
        match error {
            StateError::Trust(error) => error.into(),
            StateError::Busy => Fault::Busy,
            error => Fault::Files(printable(&error)),
        }
    }
}

impl From<LimitError> for Fault {
    fn from(error: LimitError) -> Fault {
        Fault::Files(printable(&error))
    }
}

impl From<CryptokiError> for Fault {
    fn from(error: CryptokiError) -> Fault {
        Fault::Module(printable(&error))
    }
}

impl From<SandboxError> for Fault {
    fn from(error: SandboxError) -> Fault {
        Fault::Sandbox(printable(&error))
    }
}

/// One line of at most 512 printable characters: it fits a message and may stand in a log or on a terminal, whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(512).collect())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Any error or text as such a line.
pub(crate) fn printable(text: &impl ToString) -> Text {
    text.to_string().into()
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It told why.
    #[error("{0}")]
    Fault(Fault),
    /// It did not answer in time, and was killed.
    #[error("the token did not answer within its timeout")]
    Hung,
    /// Other sessions had their turns at the token for as long as this one may wait.
    #[error("the sessions that the token bears were taken for {}", humantime::format_duration(*.0))]
    Busy(Duration),
    /// It died.
    #[error("the token process died: {0}")]
    Died(Ending),
    /// It sent what it must not.
    #[error("the token process sent nonsense")]
    Nonsense,
    /// The system refused.
    #[error("cannot talk to the token process: {0}")]
    System(#[from] Errno),
}

/// The monitor's handle on the token process.
pub struct Token {
    child: Child,
    timeout: Duration,
    deadline: Instant,
    loaded: bool,
    keys: usize,
    /// How many signatures it has been asked for and owes.
    owed: usize,
    // The process holds it, too: nobody else gets the turn before it has ended, however it ends.
    queue: Option<Queue>,
}

impl Token {
    /// Forks the process, which loads the module at once.
    ///
    /// # Errors
    /// What `fork(2)` says.
    pub fn fork(setup: Setup<'_>, queue: Option<Queue>, run: impl FnOnce(Channel, Setup<'_>)) -> Result<Token, Errno> {
        let (timeout, keys) = (setup.token.timeout(), setup.keys.len());
        let keep = queue.as_ref().map(Queue::number);
        let child = Child::fork(c"sigsh-token", keep.as_slice(), |channel| {
            match pin::occupy_standard_descriptors(setup.token.profile()) {
                Ok(()) => run(channel, setup),
                Err(fault) => drop(channel.send(&Answer::Failed(fault))),
            }
        })?;
        Ok(Token { child, timeout, deadline: after(timeout), loaded: false, keys, owed: 0, queue })
    }

    /// Its process id.
    pub fn pid(&self) -> Option<Pid> {
        self.child.pid()
    }

    /// Where to wait for it while the artifact is being hashed.
    pub fn channel(&self) -> &Channel {
        self.child.channel()
    }

    /// Until when it must have loaded its module, or made the next signature; `None` when nothing is asked of it.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.loaded || self.owed > 0).then_some(self.deadline)
    }

    /// How many signatures it has been asked for and owes.
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// Asks it whether a MAC is right: before it does anything else.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn vouch(&mut self, question: Question) -> Result<bool, TokenError> {
        self.ask(&Request::Vouch(question), self.timeout)?;
        match self.receive()? {
            Answer::Vouched(right) => Ok(right),
            _ => Err(TokenError::Nonsense),
        }
    }

    /// Takes its word that it has loaded the module, or its excuse. Anything else that it says unasked is nonsense.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn hear(&mut self) -> Result<(), TokenError> {
        match self.receive()? {
            Answer::Loaded if !self.loaded => {
                self.loaded = true;
                Ok(())
            }
            _ => Err(TokenError::Nonsense),
        }
    }

    /// Waits for the turn at the token, where it bears only so many sessions; `go_on` tells whether that still makes sense.
    ///
    /// # Errors
    /// What `go_on` says; a [`LimitError`]; or any [`TokenError`], be it that the process ends meanwhile.
    pub fn take_turn<E>(&mut self, go_on: impl Fn() -> Result<(), E>) -> Result<(), E>
    where
        E: From<TokenError> + From<LimitError>,
    {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        self.loaded()?;
        let taken = queue.wait(queue.patience, |pause| {
            if channel::wait([(self.channel().as_fd(), PollFlags::POLLIN)], after(pause)).map_err(TokenError::from)? == [true] {
                self.hear()?;
            }
            go_on()
        })?;
        if !taken {
            return Err(TokenError::Busy(queue.patience).into());
        }
        self.queue = Some(queue);
        Ok(())
    }

    fn loaded(&mut self) -> Result<(), TokenError> {
        if self.loaded { Ok(()) } else { self.hear() }
    }

    /// Takes the turn if nobody has it; tells whether it has it now. Without a limit of sessions, always.
    ///
    /// # Errors
    /// [`LimitError::Io`].
    pub fn try_turn(&self) -> Result<bool, LimitError> {
        self.queue.as_ref().map_or(Ok(true), Queue::try_take)
    }

    /// Has it log in and find the keys: what it says of their public halves, in their order.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn open(&mut self) -> Result<Vec<Option<Public>>, TokenError> {
        self.loaded()?;
        // Once for the turn of others, once for its own.
        self.ask(&Request::Open, self.timeout.saturating_mul(2))?;
        let keys = 0..self.keys;
        let next = |_| match self.receive()? {
            Answer::Open(public) => Ok(public),
            _ => Err(TokenError::Nonsense),
        };
        keys.map(next).collect()
    }

    /// For a process of [`generate`]: waits for the key to be made, for as long as a token may need to find primes.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn generated(mut self) -> Result<Option<Public>, TokenError> {
        self.deadline = after(GENERATE);
        match self.receive()? {
            Answer::Open(public) => Ok(public),
            _ => Err(TokenError::Nonsense),
        }
    }

    /// Asks for a signature with the key of this index; it may owe several.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn sign(&mut self, key: u8, scheme: Scheme, data: Vec<u8>) -> Result<(), TokenError> {
        // The time for one runs from when the one before it is done.
        let time = if self.owed == 0 { self.timeout } else { self.deadline.saturating_duration_since(Instant::now()) };
        self.owed += 1;
        self.ask(&Request::Sign(key, scheme, data), time)
    }

    /// Waits for the next signature.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn signature(&mut self) -> Result<Vec<u8>, TokenError> {
        loop {
            if let Some(signature) = self.look()? {
                return Ok(signature);
            }
            self.wait()?;
        }
    }

    /// Takes the next signature, if it is there.
    ///
    /// # Errors
    /// Any [`TokenError`], be it that its time is up.
    pub fn look(&mut self) -> Result<Option<Vec<u8>>, TokenError> {
        let answer = match self.child.channel().look() {
            Ok(None) if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) => return Err(self.hung()),
            Ok(None) => return Ok(None),
            Ok(Some(answer)) => answer,
            Err(error) => return Err(self.gone(error)),
        };
        match answer {
            Answer::Failed(fault) => Err(TokenError::Fault(fault)),
            Answer::Signed(signature) if self.owed > 0 => {
                self.owed -= 1;
                self.deadline = after(self.timeout);
                Ok(Some(signature))
            }
            _ => Err(TokenError::Nonsense),
        }
    }

    /// Tells it to log out; it does so while the monitor goes on.
    pub fn leave(&mut self) {
        let _ = self.channel().send(&Request::Leave);
        self.deadline = after(LEAVE);
    }

    /// Once told to leave: waits for it where it has a turn that others may wait for. No client that is slow to take its signature keeps
    /// them waiting.
    pub fn give_turn_back(&mut self) {
        if self.queue.is_some() {
            self.see_off();
        }
    }

    /// Gives it the time to do so, and ends it.
    pub fn end(mut self) {
        self.see_off();
    }

    fn see_off(&mut self) {
        let _ = channel::wait([(self.channel().as_fd(), PollFlags::POLLIN)], self.deadline);
        self.child.end();
        self.queue = None;
    }

    fn ask(&mut self, request: &Request, time: Duration) -> Result<(), TokenError> {
        self.deadline = after(time);
        match self.channel().send(request) {
            // It has said why.
            Ok(()) | Err(ChannelError::Gone) => Ok(()),
            Err(error) => Err(self.gone(error)),
        }
    }

    fn receive(&mut self) -> Result<Answer, TokenError> {
        self.wait()?;
        match self.channel().receive() {
            Ok(Answer::Failed(fault)) => Err(TokenError::Fault(fault)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.gone(error)),
        }
    }

    /// Waits until it says something.
    fn wait(&mut self) -> Result<(), TokenError> {
        let says = channel::wait([(self.channel().as_fd(), PollFlags::POLLIN)], self.deadline)?;
        if says == [true] { Ok(()) } else { Err(self.hung()) }
    }

    fn hung(&mut self) -> TokenError {
        self.child.end();
        TokenError::Hung
    }

    fn gone(&mut self, error: ChannelError) -> TokenError {
        match error {
            ChannelError::Gone => TokenError::Died(self.child.end()),
            ChannelError::Nonsense => TokenError::Nonsense,
            ChannelError::System(errno) => TokenError::System(errno),
        }
    }
}

/// The process.
pub fn run(channel: Channel, setup: Setup<'_>) {
    let code = match serve(&channel, setup) {
        Ok(()) => 0,
        Err(fault) => channel.send(&Answer::Failed(fault)).map_or(1, |()| 0),
    };
    sys::exit(code);
}

/// Where the token is, before the process is confined.
enum Source {
    Module(PathBuf),
    Server(File),
}

impl Source {
    /// Whoever owns the PIN may serve it, too.
    fn of(token: &config::Token, pin: &Pin) -> Result<Source, Fault> {
        match &token.source {
            config::Source::Module { module, .. } => Ok(Source::Module(trusted::resolve(module)?)),
            config::Source::Server { socket, account } => {
                // The monitor's deadline must not come before the fault.
                let patience = token.timeout() / 2;
                server::peer::reach(socket, account.as_ref().map(Spanned::get_ref), pin.owner(), patience).map(Source::Server)
            }
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Source::Module(path) => Some(path),
            Source::Server(_) => None,
        }
    }

    fn initialize(self) -> Result<Box<dyn Cryptoki>, Fault> {
        match self {
            Source::Module(path) => Ok(Box::new(Module::load(&path)?)),
            Source::Server(stream) => Ok(Box::new(Server::initialize(stream)?)),
        }
    }
}

/// What is opened before the process is confined.
fn prepare(setup: &Setup<'_>) -> Result<(Pin, Source, Marker), Fault> {
    let (pin, pin_file) = pin::read(&setup.token.pin_file)?;
    let source = Source::of(setup.token, &pin)?;
    let marker = Marker::open(setup.state, setup.name, &pin_file)?;
    sys::replace_environment(setup.token.variables());
    Ok((pin, source, marker))
}

fn serve(channel: &Channel, setup: Setup<'_>) -> Result<(), Fault> {
    let token = setup.token;
    if let Some(file) = setup.mac_file {
        let Some(question) = vouch::asked(channel) else { return Ok(()) };
        let right = vouch::is_right(file, &question)?;
        tell(channel, &Answer::Vouched(right))?;
        // Nobody will ask for more.
        if !right {
            return Ok(());
        }
    }
    let (pin, source, marker) = prepare(&setup)?;
    sandbox::enter_token(&Surroundings {
        profile: token.profile(),
        read: token.read.iter().map(AsRef::as_ref).chain(source.path()).collect(),
        write: token.write.iter().map(AsRef::as_ref).collect(),
        connect: &token.connect,
        environment: &|name| token.environment.get(name).map(|value| &**value),
    })?;
    let cryptoki = source.initialize()?;
    tell(channel, &Answer::Loaded)?;
    let Ok(Request::Open) = channel.receive() else { return Ok(()) };
    let session = login::log_in(&*cryptoki, &token.uri, &pin, &marker, token.timeout(), false)?;
    sandbox::narrow_token(token.profile(), marker.number())?;
    let found = setup.keys.iter().map(|uri| key::find(&*cryptoki, session, uri)).collect::<Result<Vec<_>, _>>()?;
    let (keys, publics): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    // Where no key wants a login again, the PIN is wiped at once, and the marker closed: what the filter leaves of it is out of reach.
    let wanted = keys.iter().any(Private::wants_login);
    let again = wanted.then(move || login::Again { pin, marker, patience: token.timeout() });
    for public in publics {
        tell(channel, &Answer::Open(public))?;
    }
    while let Ok(Request::Sign(key, scheme, data)) = channel.receive() {
        let Some(key) = keys.get(usize::from(key)) else { break };
        tell(channel, &Answer::Signed(key::sign(&*cryptoki, session, *key, again.as_ref(), scheme, &data)?))?;
    }
    cryptoki.leave(session);
    Ok(())
}

fn tell(channel: &Channel, answer: &Answer) -> Result<(), Fault> {
    channel.send(answer).map_err(|error| Fault::Module(printable(&error)))
}
