//! What goes wrong in a schedule.

use super::random::Random;

/// Where a connection is cut, seen from a statement on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutPoint {
    /// The statement does not arrive.
    Before,
    /// The server performs it after the connection is gone.
    During,
    /// The answer does not arrive.
    After,
}

/// Something that goes wrong, for a while or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut at the next batch; `is_noticed`: the client finds out at once.
    CutAtBatch {
        point: CutPoint,
        is_noticed: bool,
    },
    /// The connection is cut at any moment. Where the server does not notice, a ghost keeps the lock.
    Cut {
        is_noticed: bool,
    },
    /// The server is shut down and started again.
    ServerDown,
    /// The server takes this long for each statement.
    Slow {
        statement_ms: u64,
    },
    DiskFull,
    PartitionMissing,
    EntriesRefused,
    RowsRefused,
    HintsRefused,
    /// The login is refused.
    LoginRefused,
    JournalUnreadable,
    /// The journal does not commit.
    JournalStuck,
    /// The loop that drains the ring hangs.
    LoopHung,
    /// The daemon is killed and started again. `leaves_ghost`: the server does not find out that it is gone.
    DaemonRestarted {
        leaves_ghost: bool,
    },
    /// The same, and its journal is an older copy.
    JournalRestored,
    /// The journal is lost; another stream begins.
    JournalLost,
    /// The oldest entries are dropped at the journal's bounds.
    JournalExpired,
    /// The journal loses a change before it has a number.
    ChangeDropped,
    /// The database is restored from a copy.
    DatabaseRestored,
    /// The host is removed from the database.
    HostForgotten,
    /// Another daemon of this host is started; with the same state directory, or with a copy of the machine.
    SecondDaemon {
        same_instance: bool,
    },
}

impl Fault {
    pub fn choose(random: &mut Random) -> Self {
        let is_noticed = random.one_in(2);
        match random.below(24) {
            0..4 => {
                let points = [CutPoint::Before, CutPoint::During, CutPoint::After];
                let point = points[usize::try_from(random.below(3)).unwrap()];
                Self::CutAtBatch { point, is_noticed }
            }
            4 => Self::Cut { is_noticed },
            5 => Self::ServerDown,
            6 => Self::Slow { statement_ms: random.between(200, 40_000) },
            7 => Self::DiskFull,
            8 => Self::PartitionMissing,
            9 => Self::EntriesRefused,
            10 => Self::RowsRefused,
            11 => Self::HintsRefused,
            12 => Self::LoginRefused,
            13 => Self::JournalUnreadable,
            14 => Self::JournalStuck,
            15 => Self::LoopHung,
            16 => Self::DaemonRestarted { leaves_ghost: is_noticed },
            17 => Self::JournalRestored,
            18 => Self::JournalLost,
            19 => Self::JournalExpired,
            20 => Self::ChangeDropped,
            21 => Self::DatabaseRestored,
            22 => Self::HostForgotten,
            _ => Self::SecondDaemon { same_instance: is_noticed },
        }
    }
}
