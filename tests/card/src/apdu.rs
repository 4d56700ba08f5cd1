//! Between vpcd and an application: chains of commands are joined, long answers cut into pieces (ISO 7816-4 §5.3.3, §11.5).

use heapless::VecView;
use iso7816::command::CommandView;
use iso7816::{Command, Instruction, Status};

/// The longest command and answer in bytes: opcard's.
const LENGTH: usize = 7609;

/// An application on a card.
pub trait Application {
    fn handle(&mut self, command: CommandView<'_>, answer: &mut VecView<u8>) -> Result<(), Status>;
    fn reset(&mut self);
}

impl<T: opcard::Client> Application for opcard::Card<T> {
    fn handle(&mut self, command: CommandView<'_>, answer: &mut VecView<u8>) -> Result<(), Status> {
        self.handle(command, answer)
    }

    fn reset(&mut self) {
        self.reset();
    }
}

impl<T: piv_authenticator::Client> Application for piv_authenticator::Authenticator<T> {
    fn handle(&mut self, command: CommandView<'_>, answer: &mut VecView<u8>) -> Result<(), Status> {
        self.respond(command, answer)
    }

    fn reset(&mut self) {
        self.deselect();
    }
}

pub struct VirtualCard<A> {
    card: A,
    chain: Option<Command<LENGTH>>,
    answer: heapless::Vec<u8, LENGTH>,
    sent: usize,
}

impl<A: Application> VirtualCard<A> {
    pub fn new(card: A) -> VirtualCard<A> {
        VirtualCard { card, chain: None, answer: heapless::Vec::new(), sent: 0 }
    }

    fn handle(&mut self, request: &[u8]) -> Result<(Vec<u8>, Status), Status> {
        let command = Command::<LENGTH>::try_from(request).map_err(|_| Status::WrongLength)?;
        let last = command.class().chain().last_or_only();
        let whole = match self.chain.take() {
            None => command,
            Some(mut chain) => {
                chain.extend_from_command(&command).map_err(|_| Status::WrongLength)?;
                chain
            }
        };
        if !last {
            self.chain = Some(whole);
            return Ok((Vec::new(), Status::Success));
        }
        if whole.instruction() != Instruction::GetResponse {
            self.answer.clear();
            self.sent = 0;
            self.card.handle(whole.as_view(), &mut self.answer)?;
        }
        let rest = &self.answer[self.sent..];
        let piece = rest[..whole.expected().min(rest.len())].to_vec();
        self.sent += piece.len();
        let status = match self.answer.len() - self.sent {
            0 => Status::Success,
            more => Status::MoreAvailable(u8::try_from(more).unwrap_or(u8::MAX)),
        };
        Ok((piece, status))
    }
}

impl<A: Application> vpicc::VSmartCard for VirtualCard<A> {
    fn power_off(&mut self) {
        self.card.reset();
    }

    fn reset(&mut self) {
        self.card.reset();
    }

    fn execute(&mut self, request: &[u8]) -> Vec<u8> {
        let (mut answer, status) = self.handle(request).unwrap_or_else(|status| (Vec::new(), status));
        answer.extend_from_slice(&<[u8; 2]>::from(status));
        answer
    }
}
