//! Checks whether the row that a copy applied last is still the ledger's. Entry point: [`last_row`].
//! Blocking code asks through a [`HistoryCheck`] of [`questions`], and the task that holds the source
//! answers with [`answer_while`]. `tail` has its own check, on each read.

use ctlstore_core::ledger::{BlockLimit, HistoryCheck, LastRow, LdbPosition, LedgerSource, Seq, SourceError};
use tokio::sync::{mpsc, oneshot};

/// The questions that may wait. Each asker waits for its answer, so there are few.
const QUEUE: usize = 4;
/// The limit for a read of one row.
const ONE_ROW: BlockLimit = BlockLimit { rows: 1, bytes: 1 };

/// Compares the row at `position` with the ledger's.
///
/// # Errors
/// Those of the source.
pub async fn last_row<S: LedgerSource>(source: &mut S, position: &LdbPosition) -> Result<LastRow, SourceError> {
    let seq = position.seq;
    if seq <= Seq::ZERO {
        return Ok(LastRow::Same);
    }
    let block = source.read(Seq(seq.0 - 1), Some(seq), ONE_ROW).await?;
    if let Some(row) = block.rows.first() {
        let is_other = matches!((position.leader_ts, row.leader_ts), (Some(copy), Some(ledger)) if copy != ledger);
        return Ok(if is_other { LastRow::Other } else { LastRow::Same });
    }
    let info = source.describe().await?;
    // The row is missing. If pruning took it, `may_follow` decides.
    let is_behind_the_first = info.first.is_none_or(|first| first < seq);
    Ok(if is_behind_the_first { LastRow::Missing } else { LastRow::Same })
}

type Question = (LdbPosition, oneshot::Sender<LastRow>);

/// The end at which questions arrive.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

/// Makes the asker's end and the end of the task that has the source. If the task has ended, the answer is
/// [`LastRow::Unknown`].
pub fn questions() -> (HistoryCheck, Questions) {
    let (sender, receiver) = mpsc::channel::<Question>(QUEUE);
    let ask = move |position: &LdbPosition| {
        let (reply, answer) = oneshot::channel();
        match sender.blocking_send((position.clone(), reply)) {
            Ok(()) => answer.blocking_recv().unwrap_or(LastRow::Unknown),
            Err(_) => LastRow::Unknown,
        }
    };
    (HistoryCheck::new(ask), Questions(receiver))
}

/// Waits for `work`, and answers questions until it is done.
pub async fn answer_while<S: LedgerSource, T>(
    source: &mut S,
    Questions(mut questions): Questions,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        let (position, reply) = tokio::select! {
            biased;
            done = &mut work => return done,
            Some(question) = questions.recv() => question,
        };
        let row = last_row(source, &position).await.unwrap_or(LastRow::Unknown);
        // The asker may have been aborted.
        let _ = reply.send(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctlstore_core::ledger::{Block, LedgerInfo, LedgerRow};
    use ctlstore_core::schema::Timestamp;

    struct Rows(Vec<i64>);

    impl LedgerSource for Rows {
        async fn describe(&mut self) -> Result<LedgerInfo, SourceError> {
            let first = self.0.first().copied().map(Seq);
            let last = self.0.last().copied().map(Seq);
            Ok(LedgerInfo { first, last, ..LedgerInfo::default() })
        }

        async fn read(&mut self, after: Seq, up_to: Option<Seq>, _: BlockLimit) -> Result<Block, SourceError> {
            let is_asked = |seq: &&i64| Seq(**seq) > after && up_to.is_none_or(|up_to| Seq(**seq) <= up_to);
            let row = |seq: &i64| LedgerRow {
                seq: Seq(*seq),
                leader_ts: Some(Timestamp::from_unix_micros(*seq)),
                statement: "s".to_owned(),
            };
            Ok(Block { rows: self.0.iter().filter(is_asked).map(row).collect(), at_end: true })
        }

        async fn close(&mut self) {}
    }

    fn at(seq: i64, time: Option<i64>) -> LdbPosition {
        LdbPosition { seq: Seq(seq), leader_ts: time.map(Timestamp::from_unix_micros), ledger_id: None }
    }

    #[tokio::test]
    async fn a_row_is_told_by_its_time_and_by_its_neighbours() {
        let mut rows = Rows(vec![3, 4, 6]);
        for (position, expected) in [
            (at(0, None), LastRow::Same),
            (at(4, Some(4)), LastRow::Same),
            (at(4, None), LastRow::Same),
            (at(4, Some(5)), LastRow::Other),
            (at(5, Some(5)), LastRow::Missing),
            // Pruned: `may_follow` judges that.
            (at(2, Some(2)), LastRow::Same),
            // Beyond the end.
            (at(9, Some(9)), LastRow::Missing),
        ] {
            assert_eq!(last_row(&mut rows, &position).await.unwrap(), expected, "{position:?}");
        }
    }

    #[tokio::test]
    async fn a_blocking_asker_is_answered_while_its_work_is_waited_for() {
        let (check, questions) = questions();
        let again = check.clone();
        let work = tokio::task::spawn_blocking(move || check.ask(&at(4, Some(5))));
        assert_eq!(answer_while(&mut Rows(vec![4]), questions, work).await.unwrap(), LastRow::Other);
        let gone = tokio::task::spawn_blocking(move || again.ask(&at(4, Some(5)))).await;
        assert_eq!(gone.unwrap(), LastRow::Unknown);
    }
}
