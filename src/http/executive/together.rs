//! Mutation requests on their way to the executive. What a worker reads in one turn of its
//! loop goes as one message, and the answers of one commit come back as one: neither thread
//! is woken for each request, which between threads costs more than the request itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::dev::SendError;
use actix::{MailboxError, Recipient};
use tokio::sync::{mpsc, oneshot};

use crate::executive::{ExecutiveError, MutationRequest};
use crate::http::error::HttpError;
use crate::messages::executive::{Answer, AnswerTo, Mutate, Outcome};

/// Of one worker.
#[derive(Clone)]
pub(super) struct Together(Rc<Shared>);

struct Shared {
    to: Recipient<Mutate>,
    /// Requests not yet sent, as many as the worker has connections at most.
    waiting: RefCell<Vec<(MutationRequest, AnswerTo)>>,
    /// Whether a task is about to send them.
    sending: Cell<bool>,
    answers: mpsc::UnboundedSender<Vec<Answer>>,
    /// There until somebody listens.
    answered: RefCell<Option<mpsc::UnboundedReceiver<Vec<Answer>>>>,
}

impl Together {
    pub fn new(to: Recipient<Mutate>) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let answered = RefCell::new(Some(answered));
        Self(Rc::new(Shared { to, waiting: RefCell::default(), sending: Cell::default(), answers, answered }))
    }

    /// Has the request carried out. An answer that takes longer than `timeout` is not waited for.
    pub async fn mutate(&self, request: MutationRequest, timeout: Duration) -> Result<Outcome, HttpError> {
        let (to, answer) = oneshot::channel();
        let answer_to = AnswerTo { request: to, sender: self.0.answers.clone() };
        self.0.waiting.borrow_mut().push((request, answer_to));
        if let Some(answered) = self.0.answered.take() {
            actix_rt::spawn(hand_over(answered));
        }
        if !self.0.sending.replace(true) {
            actix_rt::spawn(self.clone().send());
        }
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(MailboxError::Closed.into()),
            Err(_) => Err(MailboxError::Timeout.into()),
        }
    }

    async fn send(self) {
        // All that is there by now is read first.
        tokio::task::yield_now().await;
        self.0.sending.set(false);
        match self.0.to.try_send(Mutate(self.0.waiting.take())) {
            // Whoever waits for what is dropped is told that the service is stopping.
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(SendError::Full(Mutate(requests))) => {
                for (_, answer_to) in requests {
                    let full = ExecutiveError::NotServing("too many requests wait for the executive".to_owned());
                    // Whoever waited may have left.
                    let _ = answer_to.request.send(Err(full));
                }
            }
        }
    }
}

async fn hand_over(mut answered: mpsc::UnboundedReceiver<Vec<Answer>>) {
    while let Some(answers) = answered.recv().await {
        answers.into_iter().for_each(Answer::hand_over);
    }
}
