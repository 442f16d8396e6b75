//! The types that a program can use as a key. Entry points: the traits [`Key`] and [`KeyPart`].

use std::borrow::Cow;
use std::sync::Arc;

use super::value::{Value, ValueRef};

/// A value of one key column. SQLite compares it by the column's own type, so a text of digits finds
/// an integer. A text also finds a bytestring of the same bytes.
pub trait KeyPart {
    /// The value to look for.
    fn value(&self) -> ValueRef<'_>;
}

/// A row's key, or a leading part of it: the values of the key columns in key order.
///
/// A single value is a key of one column. A tuple has values of different types. A slice, array or
/// vector has values of one type, which can be [`Value`]. `()` is the prefix of every key. A `&[u8]`
/// or `Vec<u8>` is one value, not many.
///
/// ```
/// # use ctlstore_reader::{Key, Value, ValueRef};
/// fn parts(key: impl Key) -> usize {
///     key.parts()
/// }
/// assert_eq!(parts("dark-mode"), 1);
/// assert_eq!(parts(("shop", 7)), 2);
/// assert_eq!(parts(["eu", "de", "berlin"]), 3);
/// assert_eq!(parts(vec![Value::from("shop"), Value::from(7)]), 2);
/// assert_eq!(parts(&[0xca_u8, 0xfe][..]), 1);
/// assert_eq!(parts(()), 0);
/// ```
pub trait Key {
    /// The number of key columns that it has values for.
    fn parts(&self) -> usize;

    /// The value at `index`, which is below [`Key::parts`].
    fn part(&self, index: usize) -> ValueRef<'_>;
}

/// Makes a type both a value and a key of one column.
macro_rules! single {
    ($($type:ty, $self:ident => $value:expr);* $(;)?) => {
        $(
            impl KeyPart for $type {
                fn value(&$self) -> ValueRef<'_> {
                    $value
                }
            }

            impl Key for $type {
                fn parts(&self) -> usize {
                    1
                }

                fn part(&self, _: usize) -> ValueRef<'_> {
                    self.value()
                }
            }
        )*
    };
}

single! {
    str, self => ValueRef::Text(self);
    String, self => ValueRef::Text(self);
    Box<str>, self => ValueRef::Text(self);
    Arc<str>, self => ValueRef::Text(self);
    Cow<'_, str>, self => ValueRef::Text(self);
    [u8], self => ValueRef::Blob(self);
    Vec<u8>, self => ValueRef::Blob(self);
    i16, self => ValueRef::Integer(i64::from(*self));
    i32, self => ValueRef::Integer(i64::from(*self));
    i64, self => ValueRef::Integer(*self);
    u16, self => ValueRef::Integer(i64::from(*self));
    u32, self => ValueRef::Integer(i64::from(*self));
    // No column has a larger number than a signed 64-bit integer. A float of it equals no integer there.
    u64, self => i64::try_from(*self).map_or(ValueRef::Real(*self as f64), ValueRef::Integer);
    bool, self => ValueRef::Integer(i64::from(*self));
    Value, self => self.as_ref();
    ValueRef<'_>, self => *self;
}

impl<const N: usize> KeyPart for [u8; N] {
    fn value(&self) -> ValueRef<'_> {
        ValueRef::Blob(self)
    }
}

impl<P: KeyPart + ?Sized> KeyPart for &P {
    fn value(&self) -> ValueRef<'_> {
        (**self).value()
    }
}

/// `None` finds no row.
impl<P: KeyPart> KeyPart for Option<P> {
    fn value(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, KeyPart::value)
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn parts(&self) -> usize {
        (**self).parts()
    }

    fn part(&self, index: usize) -> ValueRef<'_> {
        (**self).part(index)
    }
}

impl<P: KeyPart> Key for [P] {
    fn parts(&self) -> usize {
        self.len()
    }

    fn part(&self, index: usize) -> ValueRef<'_> {
        self[index].value()
    }
}

impl<P: KeyPart> Key for Vec<P> {
    fn parts(&self) -> usize {
        self.len()
    }

    fn part(&self, index: usize) -> ValueRef<'_> {
        self[index].value()
    }
}

impl<P: KeyPart, const N: usize> Key for [P; N] {
    fn parts(&self) -> usize {
        N
    }

    fn part(&self, index: usize) -> ValueRef<'_> {
        self[index].value()
    }
}

impl Key for () {
    fn parts(&self) -> usize {
        0
    }

    fn part(&self, _: usize) -> ValueRef<'_> {
        ValueRef::Null
    }
}

macro_rules! tuple {
    ($parts:literal: $($name:ident $index:tt),*) => {
        impl<$($name: KeyPart),*> Key for ($($name,)*) {
            fn parts(&self) -> usize {
                $parts
            }

            fn part(&self, index: usize) -> ValueRef<'_> {
                match index {
                    $($index => self.$index.value(),)*
                    _ => ValueRef::Null,
                }
            }
        }
    };
}

tuple!(1: A 0);
tuple!(2: A 0, B 1);
tuple!(3: A 0, B 1, C 2);
tuple!(4: A 0, B 1, C 2, D 3);
tuple!(5: A 0, B 1, C 2, D 3, E 4);
tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
