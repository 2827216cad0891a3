//! What the code that `#[derive(Input)]` generates consists of; nothing else is to use it.
//!
//! That code is in other crates, so whatever it may do, any safe code may. It may only compose inputs that exist:
//!
//! * What an input becomes while its task waits is opaque. All that implements `Waits`, a trait that can't be named and is
//!   unsafe to implement, has private fields and no public methods, but for [`Mapped::new`]. So an edge can neither be made nor
//!   be taken out of one input and put into another, where its value would be read as another type than it has.
//! * Such a thing comes only from an input of the same type of argument, and a task whose memory it's stored in gives no
//!   access to it.
//! * Without an [`InputSeal`], which only an implementation gets when its struct is submitted, there's none at all.

pub use super::visit::InputVisitor;
pub use crate::engine::task::mapped::Mapped;
pub use crate::handle::input::IntoWait;
pub use crate::task::seal::InputSeal;

/// A field, and the ones after it.
#[derive(Debug)]
pub struct Pair<X, R>(pub X, pub R);

/// No further field.
#[derive(Debug)]
pub struct End;

impl<X: IntoWait<A>, A, R: IntoWait<S>, S> IntoWait<(A, S)> for Pair<X, R> {
    type Wait = (X::Wait, R::Wait);

    fn into_wait(self, seal: InputSeal) -> Self::Wait {
        (self.0.into_wait(seal), self.1.into_wait(seal))
    }
}
