//! [`MutationBatcher`]: sends mutation requests to the executive in batches. The requests that a worker
//! reads in one turn of its loop go as one message. The answers of one commit come back as one message.
//! So neither thread is woken for each request, which would cost more than the request itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::dev::SendError;
use actix::{MailboxError, Recipient};
use tokio::sync::{mpsc, oneshot};

use crate::http::error::HttpError;
use crate::messages::executive::{AnswerTo, MutateBatch, MutationAnswer, MutationOutcome};
use ctlstore_ctldb::executive::{ExecutiveError, MutationRequest};

/// The batcher of one worker.
#[derive(Clone)]
pub(super) struct MutationBatcher(Rc<BatcherState>);

struct BatcherState {
    to: Recipient<MutateBatch>,
    /// Requests that are not sent yet. There are at most as many as the worker has connections.
    waiting: RefCell<Vec<(MutationRequest, AnswerTo)>>,
    /// Whether a task is about to send them.
    sending: Cell<bool>,
    answers: mpsc::UnboundedSender<Vec<MutationAnswer>>,
    /// `Some` until the task runs that delivers answers.
    answered: RefCell<Option<mpsc::UnboundedReceiver<Vec<MutationAnswer>>>>,
}

impl MutationBatcher {
    pub fn new(to: Recipient<MutateBatch>) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let answered = RefCell::new(Some(answered));
        Self(Rc::new(BatcherState { to, waiting: RefCell::default(), sending: Cell::default(), answers, answered }))
    }

    /// Has the executive run the request. Waits at most `timeout` for the answer.
    pub async fn mutate(&self, request: MutationRequest, timeout: Duration) -> Result<MutationOutcome, HttpError> {
        let (to, answer) = oneshot::channel();
        let answer_to = AnswerTo { waiter: to, batches: self.0.answers.clone() };
        self.0.waiting.borrow_mut().push((request, answer_to));
        if let Some(answered) = self.0.answered.take() {
            actix_rt::spawn(deliver(answered));
        }
        if !self.0.sending.replace(true) {
            actix_rt::spawn(self.clone().send());
        }
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The executive has dropped the request, and may have begun to write it.
            Ok(Err(_)) => Err(HttpError::unavailable("the service is stopping, the outcome is unknown")),
            Err(_) => Err(MailboxError::Timeout.into()),
        }
    }

    async fn send(self) {
        // The worker first reads all requests that have arrived.
        tokio::task::yield_now().await;
        self.0.sending.set(false);
        let (MutateBatch(requests), why) = match self.0.to.try_send(MutateBatch(self.0.waiting.take())) {
            Ok(()) => return,
            Err(SendError::Closed(requests)) => (requests, "the executive has stopped"),
            Err(SendError::Full(requests)) => (requests, "too many requests wait for the executive"),
        };
        for (_, answer_to) in requests {
            // The waiter may have gone.
            let _ = answer_to.waiter.send(Err(ExecutiveError::NotServing(why.to_owned())));
        }
    }
}

async fn deliver(mut answered: mpsc::UnboundedReceiver<Vec<MutationAnswer>>) {
    while let Some(answers) = answered.recv().await {
        answers.into_iter().for_each(MutationAnswer::deliver);
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Addr, Context, Handler};
    use actix_web::ResponseError;
    use serde_json::value::RawValue;

    use super::*;
    use crate::messages::executive::answer;
    use ctlstore_core::ledger::Seq;
    use ctlstore_core::schema::{FamilyName, WriterName};
    use ctlstore_ctldb::executive::{Credentials, Mutation, Secret, WrittenRequest};

    const SOON: Duration = Duration::from_secs(20);

    /// Answers each request by its index in the message, or keeps the requests without an answer.
    #[derive(Default)]
    struct Stub {
        batches: Vec<usize>,
        kept: Vec<(MutationRequest, AnswerTo)>,
        keeps: bool,
    }

    impl Actor for Stub {
        type Context = Context<Self>;
    }

    impl Handler<MutateBatch> for Stub {
        type Result = ();

        fn handle(&mut self, MutateBatch(requests): MutateBatch, _: &mut Self::Context) {
            self.batches.push(requests.len());
            if self.keeps {
                return self.kept.extend(requests);
            }
            let outcome = |number: usize| match number {
                1 => Err(ExecutiveError::NotServing("the second".to_owned())),
                _ => Ok(WrittenRequest { seq: Seq(number as i64), rows: 1, statements: 1, over_warn: Vec::new() }),
            };
            answer(requests.into_iter().enumerate().map(|(number, (_, answer_to))| (answer_to, outcome(number))));
        }
    }

    /// Asks the stub for the sizes of the messages that it got. `drops` has it drop the kept requests.
    #[derive(actix::Message)]
    #[rtype(result = "Vec<usize>")]
    struct Batches {
        drops: bool,
    }

    impl Handler<Batches> for Stub {
        type Result = Vec<usize>;

        fn handle(&mut self, Batches { drops }: Batches, _: &mut Self::Context) -> Vec<usize> {
            if drops {
                self.kept.clear();
            }
            self.batches.clone()
        }
    }

    fn batcher(stub: Stub) -> (MutationBatcher, Addr<Stub>) {
        let address = stub.start();
        (MutationBatcher::new(address.clone().recipient()), address)
    }

    fn request() -> MutationRequest {
        let value = ("id".to_owned(), RawValue::from_string("1".to_owned()).unwrap());
        let mutation = Mutation::new(&FamilyName::new("fam").unwrap(), "tab", false, vec![value]).unwrap();
        let credentials = Credentials { writer: WriterName::new("writer").unwrap(), secret: Secret::shown(b"secret") };
        MutationRequest::new(credentials, vec![], None, vec![mutation]).unwrap()
    }

    #[actix::test]
    async fn what_comes_at_once_goes_as_one_message_and_each_gets_its_own_answer() {
        let (batcher, stub) = batcher(Stub::default());
        let other = MutationBatcher::new(stub.clone().recipient());
        let [first, second, third] = [(); 3].map(|()| batcher.mutate(request(), SOON));
        let (first, second, third, by_other) = futures::join!(first, second, third, other.mutate(request(), SOON));
        let seq = |outcome: Result<MutationOutcome, HttpError>| outcome.unwrap().unwrap().seq;
        assert_eq!([seq(first), seq(third), seq(by_other)], [Seq(0), Seq(2), Seq(0)]);
        assert!(matches!(second.unwrap(), Err(ExecutiveError::NotServing(_))));
        let mut batches = stub.send(Batches { drops: false }).await.unwrap();
        batches.sort_unstable();
        assert_eq!(batches, [1, 3], "one message of each worker");
        assert_eq!(seq(batcher.mutate(request(), SOON).await), Seq(0), "the way is open for the next");
    }

    #[actix::test]
    async fn who_gets_no_answer_is_told_so() {
        let (batcher, stub) = batcher(Stub { keeps: true, ..Stub::default() });
        let told = |outcome: Result<MutationOutcome, HttpError>| {
            let error = outcome.unwrap_err();
            (error.status_code().as_u16(), error.to_string())
        };
        let (status, why) = told(batcher.mutate(request(), Duration::from_millis(1)).await);
        assert_eq!((status, why.contains("took too long")), (503, true), "{why}");
        let drop_all = async {
            while stub.send(Batches { drops: true }).await.unwrap().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        let (outcome, ()) = tokio::join!(batcher.mutate(request(), SOON), drop_all);
        let (status, why) = told(outcome);
        assert_eq!((status, why.contains("the outcome is unknown")), (503, true), "{why}");
    }

    #[actix::test]
    async fn a_full_mailbox_refuses_and_a_closed_one_says_so() {
        struct Deaf;
        impl Actor for Deaf {
            type Context = Context<Self>;
            fn started(&mut self, context: &mut Self::Context) {
                context.set_mailbox_capacity(1);
            }
        }
        impl Handler<MutateBatch> for Deaf {
            type Result = ();
            fn handle(&mut self, _: MutateBatch, _: &mut Self::Context) {}
        }
        let arbiter = actix::Arbiter::new();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let deaf = Deaf::start_in_arbiter(&arbiter.handle(), |_| Deaf);
        while !deaf.connected() {
            tokio::task::yield_now().await;
        }
        // Its thread does nothing else from here on, until `hold` is dropped.
        arbiter.spawn_fn(move || {
            let _ = held.recv();
        });
        let batcher = MutationBatcher::new(deaf.clone().recipient());
        let mut refused = None;
        // The mailbox takes as many as fit, and these get no answer. The next one is refused.
        for _ in 0..100 {
            match batcher.mutate(request(), Duration::from_millis(50)).await {
                Ok(outcome) => {
                    refused = Some(outcome);
                    break;
                }
                Err(error) => assert!(error.to_string().contains("took too long"), "{error}"),
            }
        }
        assert!(matches!(refused, Some(Err(ExecutiveError::NotServing(_)))), "{refused:?}");
        drop(hold);
        arbiter.stop();
        arbiter.join().unwrap();
        let refused = batcher.mutate(request(), SOON).await.unwrap();
        assert!(matches!(&refused, Err(ExecutiveError::NotServing(why)) if why.contains("stopped")), "{refused:?}");
    }
}
