//! A token's module in this process, and a session with one of its tokens.
//!
//! A module is of the whole process: where a token was taken away and put back, some find it again only once they are
//! started anew, which ends everybody's sessions. So whoever uses one looks first whether that happened.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::pin::{Written, read_pin};
use crate::{TokenError, TokenUri};

/// Held by whoever calls a module, and alone by whoever starts one anew.
static CALLS: RwLock<()> = RwLock::new(());

/// How often modules were started anew.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// Which PINs their tokens refused: a token that is given a wrong one often locks itself. One for each token that
/// is configured.
static REFUSED: Mutex<Vec<Wrong>> = Mutex::new(Vec::new());

/// A PIN that a token refused.
struct Wrong {
    module: PathBuf,
    token: String,
    written: Written,
}

/// A session with a token, logged in.
pub(crate) struct Open {
    pub(crate) module: Pkcs11,
    pub(crate) slot: Slot,
    pub(crate) session: Session,
    starts: u64,
}

impl Open {
    /// Whether its module was not started anew since.
    pub(crate) fn is_of_now(&self) -> bool {
        self.starts == STARTS.load(Ordering::Acquire)
    }

    /// Lets go of it without a word to the module where that was started anew since: another session may have its
    /// number by now.
    pub(crate) fn let_go(self) {
        if !self.is_of_now() {
            std::mem::forget(self.session);
        }
    }
}

/// To be held while a module is called.
pub(crate) fn calling() -> RwLockReadGuard<'static, ()> {
    CALLS.read().unwrap_or_else(PoisonError::into_inner)
}

/// A session with the token that `uri` names. To be called within [`calling`].
pub(crate) fn open(uri: &TokenUri) -> Result<Open, TokenError> {
    let (pin, written) = read_pin(&uri.pin)?;
    if is_refused(uri, written) {
        return Err(TokenError::PinRefused { token: uri.token.clone(), path: uri.pin.clone() });
    }
    let starts = STARTS.load(Ordering::Acquire);
    let module = load(uri)?;
    let slots = module.get_slots_with_token().map_err(refused("listing tokens"))?;
    let called =
        |slot: &Slot| module.get_token_info(*slot).is_ok_and(|about| about.label() == uri.token);
    let slot = slots.into_iter().find(called);
    let slot = slot.ok_or_else(|| TokenError::NoToken(uri.token.clone()))?;
    let session = module.open_rw_session(slot).map_err(refused("opening a session"))?;
    match session.login(UserType::User, Some(&AuthPin::from(pin))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => {
            note_refused(uri, written, &error);
            return Err(refused(LOGIN)(error));
        }
    }
    Ok(Open { module, slot, session, starts })
}

/// What is tried with a PIN.
const LOGIN: &str = "logging in to the token";

/// Whether the token refused its owner's PIN.
pub(crate) fn is_of_login(error: &TokenError) -> bool {
    match error {
        TokenError::Refused { action, .. } => *action == LOGIN,
        TokenError::PinRefused { .. } => true,
        _ => false,
    }
}

/// Whether the token may have had no room: it has a code for that, and a TPM's module says that something went wrong.
pub(crate) fn is_for_room(error: &TokenError) -> bool {
    let TokenError::Refused { source, .. } = error else { return false };
    matches!(
        **source,
        Error::Pkcs11(RvError::DeviceMemory | RvError::HostMemory | RvError::GeneralError, _)
    )
}

fn is_refused(uri: &TokenUri, written: Written) -> bool {
    let is_it = |wrong: &Wrong| is_of(wrong, uri) && wrong.written == written;
    wrong_pins().iter().any(is_it)
}

/// Notes a PIN where it is the PIN that was refused, and not the token that could not look at it.
fn note_refused(uri: &TokenUri, written: Written, error: &Error) {
    let Error::Pkcs11(
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinLocked,
        _,
    ) = error
    else {
        return;
    };
    let mut wrong = wrong_pins();
    wrong.retain(|known| !is_of(known, uri));
    wrong.push(Wrong { module: uri.module.clone(), token: uri.token.clone(), written });
}

fn is_of(wrong: &Wrong, uri: &TokenUri) -> bool {
    (&wrong.module, &wrong.token) == (&uri.module, &uri.token)
}

fn wrong_pins() -> MutexGuard<'static, Vec<Wrong>> {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the module of `uri` anew, so that it looks for its tokens again.
pub(crate) fn start_anew(uri: &TokenUri) -> Result<(), TokenError> {
    let _alone = CALLS.write().unwrap_or_else(PoisonError::into_inner);
    let module = load(uri)?;
    STARTS.fetch_add(1, Ordering::AcqRel);
    module.finalize().map_err(refused("ending the token's module"))?;
    load(uri).map(drop)
}

fn load(uri: &TokenUri) -> Result<Pkcs11, TokenError> {
    let module = Pkcs11::new(&uri.module).map_err(refused("loading the token's module"))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // By whoever came before.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(refused("starting the token's module")(error)),
    }
}

pub(crate) fn refused(action: &'static str) -> impl FnOnce(Error) -> TokenError {
    move |source| TokenError::Refused { action, source: Box::new(source) }
}
