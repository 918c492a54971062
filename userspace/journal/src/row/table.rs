//! Declares a table's row: the struct, its columns and the way from and to values. The order of
//! fields is the canonical order and their numbers are the Parquet field ids: neither may change.
//! A new column stands at the end and may be absent.

/// A table whose rows are all their own; or one whose rows have parts that others have as well: what is the session's, and what
/// the statement's.
macro_rules! table {
    (
        $(#[$meta:meta])* $name:ident = $table:expr;
        $( $(#[$doc:meta])* $field:ident : $type:ty = $id:literal, )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $( $(#[$doc])* pub $field: $type, )* }

        impl $name {
            /// The columns, in canonical order.
            pub const COLUMNS: &[$crate::row::Column] =
                &[ $( $crate::row::table::column!($field, $type, $id, Own), )* ];

            /// Calls `each` with every column's value, in canonical order.
            #[inline]
            pub fn visit<'a>(&'a self, each: &mut (impl FnMut($crate::row::Value<'a>) + ?Sized)) {
                $( each($crate::row::Field::value(&self.$field)); )*
            }

            /// Hands over the columns of `rows`, in canonical order.
            pub fn columns<'a>(rows: &[&'a Self], each: &mut impl $crate::row::Columns<'a>) {
                $( each.column(rows.iter().map(|row| $crate::row::Field::value(&row.$field))); )*
            }

            /// The row with these values in canonical order; `None` if they do not fit.
            pub fn from_values(
                mut values: impl Iterator<Item = $crate::row::OwnedValue>,
            ) -> Option<Self> {
                let row = Self { $( $field: $crate::row::Field::from_value(values.next()?)?, )* };
                values.next().is_none().then_some(row)
            }

            /// Appends the canonical form.
            pub fn canon(&self, out: &mut Vec<u8>) {
                let table = $table;
                let mut canon = $crate::row::Canon::new(out, table.tag(), table.first_columns());
                self.visit(&mut |value| canon.value(value));
                canon.finish();
            }

            $crate::row::table::leaf_hash!();
        }
    };
    (
        $(#[$meta:meta])* $name:ident = $table:expr;
        $(#[$session_meta:meta])* session: $session:ident;
        $(#[$statement_meta:meta])* statement: $statement:ident;
        $(
            $( session { $( $(#[$sdoc:meta])* $sfield:ident : $stype:ty = $sid:literal, )* } )?
            $( statement { $( $(#[$tdoc:meta])* $tfield:ident : $ttype:ty = $tid:literal, )* } )?
            own { $( $(#[$doc:meta])* $field:ident : $type:ty = $id:literal, )* }
        )*
    ) => {
        $crate::row::table::part!(
            $(#[$session_meta])* $session
            $( $( { $( $(#[$sdoc])* $sfield : $stype, )* } )? )*
        );
        $crate::row::table::part!(
            $(#[$statement_meta])* $statement
            $( $( { $( $(#[$tdoc])* $tfield : $ttype, )* } )? )*
        );

        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $(#[$session_meta])*
            pub session: $crate::row::Shared<$session>,
            $(#[$statement_meta])*
            pub statement: $crate::row::Shared<$statement>,
            $( $( $(#[$doc])* pub $field: $type, )* )*
        }

        impl $name {
            /// The columns, in canonical order.
            pub const COLUMNS: &[$crate::row::Column] = &[ $(
                $( $( $crate::row::table::column!($sfield, $stype, $sid, Session), )* )?
                $( $( $crate::row::table::column!($tfield, $ttype, $tid, Statement), )* )?
                $( $crate::row::table::column!($field, $type, $id, Own), )*
            )* ];

            /// Calls `each` with every column's value, in canonical order.
            #[inline]
            pub fn visit<'a>(&'a self, each: &mut (impl FnMut($crate::row::Value<'a>) + ?Sized)) {
                let (session, statement) = (&*self.session, &*self.statement);
                $(
                    $( $( each($crate::row::Field::value(&session.$sfield)); )* )?
                    $( $( each($crate::row::Field::value(&statement.$tfield)); )* )?
                    $( each($crate::row::Field::value(&self.$field)); )*
                )*
            }

            /// Hands over the columns of `rows`, in canonical order.
            pub fn columns<'a>(rows: &[&'a Self], each: &mut impl $crate::row::Columns<'a>) {
                use $crate::row::{Field, Part};
                let sessions = each.parts(Part::Session, rows.iter().map(|row| &row.session));
                let statements = each.parts(Part::Statement, rows.iter().map(|row| &row.statement));
                $(
                    $( $( each.column(sessions.iter().map(|of| Field::value(&of.$sfield))); )* )?
                    $( $( each.column(statements.iter().map(|of| Field::value(&of.$tfield))); )* )?
                    $( each.column(rows.iter().map(|row| Field::value(&row.$field))); )*
                )*
            }

            /// The row with these values in canonical order; `None` if they do not fit.
            pub fn from_values(
                mut values: impl Iterator<Item = $crate::row::OwnedValue>,
            ) -> Option<Self> {
                let mut session = $session::default();
                let mut statement = $statement::default();
                let mut row = Self::default();
                $(
                    $( $( session.$sfield = $crate::row::Field::from_value(values.next()?)?; )* )?
                    $( $( statement.$tfield = $crate::row::Field::from_value(values.next()?)?; )* )?
                    $( row.$field = $crate::row::Field::from_value(values.next()?)?; )*
                )*
                row.session = $crate::row::Shared::new(session);
                row.statement = $crate::row::Shared::new(statement);
                values.next().is_none().then_some(row)
            }

            /// Appends the canonical form.
            pub fn canon(&self, out: &mut Vec<u8>) {
                use $crate::row::{Canon, Field, Form};
                let (session, statement) = (&self.session, &self.statement);
                let mut sessions = session.form().map(Form::runs);
                let mut statements = statement.form().map(Form::runs);
                let table = $table;
                let mut canon = Canon::new(out, table.tag(), table.first_columns());
                $(
                    $( canon.run(&mut sessions, |canon| {
                        $( canon.value(Field::value(&session.$sfield)); )*
                    }); )?
                    $( canon.run(&mut statements, |canon| {
                        $( canon.value(Field::value(&statement.$tfield)); )*
                    }); )?
                    $( canon.value(Field::value(&self.$field)); )*
                )*
                canon.finish();
            }

            $crate::row::table::leaf_hash!();
        }
    };
}
pub(crate) use table;

/// A part that rows share, of runs of columns.
macro_rules! part {
    (
        $(#[$meta:meta])* $name:ident
        $( { $( $(#[$doc:meta])* $field:ident : $type:ty, )* } )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $( $( $(#[$doc])* pub $field: $type, )* )* }

        impl $crate::row::Common for $name {
            fn form(&self) -> $crate::row::Form {
                let mut form = $crate::row::Form::with_capacity($crate::row::Common::bytes(self));
                $( form.put(&[ $( $crate::row::Field::value(&self.$field), )* ]); )*
                form
            }

            fn bytes(&self) -> usize {
                0 $( $( + $crate::row::Field::value(&self.$field).bytes() )* )*
            }
        }
    };
}
pub(crate) use part;

macro_rules! column {
    ($field:ident, $type:ty, $id:literal, $part:ident) => {
        $crate::row::Column {
            name: stringify!($field),
            kind: <$type as $crate::row::Field>::KIND,
            nullable: <$type as $crate::row::Field>::NULLABLE,
            field_id: $id,
            part: $crate::row::Part::$part,
        }
    };
}
pub(crate) use column;

macro_rules! leaf_hash {
    () => {
        /// The leaf hash (RFC 6962 §2.1).
        pub fn leaf_hash(&self) -> [u8; 32] {
            let mut bytes = Vec::with_capacity(1024);
            self.canon(&mut bytes);
            $crate::row::canon::leaf_hash(&bytes)
        }
    };
}
pub(crate) use leaf_hash;
