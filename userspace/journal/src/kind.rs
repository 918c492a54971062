//! The numbers that stand for words in frames. A number, once given, never changes its meaning.

use types::command::{Action, CommandKind};
use types::decision::Effect;
use types::event::Status;
use types::principal::Assurance;

use crate::codec::Malformed;

/// Writes a pair of functions between an enum and its numbers.
macro_rules! codes {
    ($encode:ident, $decode:ident, $type:ident { $($variant:ident = $code:literal),+ $(,)? }) => {
        /// The number of a value.
        pub(crate) fn $encode(value: $type) -> u8 {
            match value {
                $($type::$variant => $code),+
            }
        }

        /// The value of a number.
        pub(crate) fn $decode(code: u8) -> Result<$type, Malformed> {
            match code {
                $($code => Ok($type::$variant),)+
                _ => Err(Malformed(concat!("unknown number of ", stringify!($type)))),
            }
        }
    };
}

codes!(command_code, command_kind, CommandKind { Connect = 1, Query = 2, FunctionCall = 3, Cancel = 4, Resolve = 5, Request = 6 });
codes!(effect_code, effect, Effect { Allow = 1, Deny = 2, RequireApproval = 3 });
codes!(status_code, status, Status { Ok = 1, Error = 2, Denied = 3, Skipped = 4, Interrupted = 5, Limited = 6 });
codes!(assurance_code, assurance, Assurance { A0 = 1, A1 = 2, A2 = 3 });
codes!(
    action_code,
    action,
    Action {
        Connect = 1,
        Session = 2,
        Select = 3,
        Insert = 4,
        Update = 5,
        Delete = 6,
        Call = 7,
        Ddl = 8,
        Privilege = 9,
        Admin = 10,
        Cancel = 11,
        Unknown = 12,
        Resolve = 13,
        ResolveData = 14,
        Replicate = 15,
        Fetch = 16,
        Submit = 17,
    }
);
