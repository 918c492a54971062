//! What is measured.

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// One-row SELECTs by pgbench, so many clients at once.
    Select { mode: Mode, clients: u32 },
    /// One connection per transaction.
    Connect { clients: u32 },
    /// A large result, by one client.
    Bulk(Bulk),
}

/// How pgbench sends a query (`-M`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Simple,
    Extended,
    Prepared,
}

/// By which command a large result is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    /// Columns that nothing is masked in.
    Select,
    CopyOut,
    /// One column of several is masked.
    SelectMasked,
    SelectMaskedBinary,
    CopyOutMasked,
}

impl Bulk {
    const ALL: [Self; 5] = [
        Self::Select,
        Self::CopyOut,
        Self::SelectMasked,
        Self::SelectMaskedBinary,
        Self::CopyOutMasked,
    ];

    /// Answers its command.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Select => "SELECT * FROM ledger",
            Self::CopyOut => "COPY ledger TO STDOUT",
            Self::SelectMasked | Self::SelectMaskedBinary => "SELECT * FROM payers",
            Self::CopyOutMasked => "COPY payers TO STDOUT",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Select => "select_bulk",
            Self::CopyOut => "copy_out",
            Self::SelectMasked => "select_masked",
            Self::SelectMaskedBinary => "select_masked_binary",
            Self::CopyOutMasked => "copy_out_masked",
        }
    }
}

impl Mode {
    /// Answers pgbench's word, which is the report's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

impl Case {
    /// Answers all of them, in the order of a round.
    pub(crate) fn all() -> Vec<Self> {
        let modes = [Mode::Simple, Mode::Extended, Mode::Prepared];
        let selects = modes
            .into_iter()
            .flat_map(|mode| [1, 8, 64].map(|clients| Self::Select { mode, clients }));
        selects
            .chain([Self::Connect { clients: 8 }])
            .chain(Bulk::ALL.into_iter().map(Self::Bulk))
            .collect()
    }

    /// Answers its word in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Select { mode, .. } => mode.name(),
            Self::Connect { .. } => "connect",
            Self::Bulk(bulk) => bulk.name(),
        }
    }

    /// Whether it is meant by its word, or by word and clients (`prepared-8`).
    pub(crate) fn is_called(self, name: &str) -> bool {
        name == self.name() || name == format!("{}-{}", self.name(), self.clients())
    }

    /// Answers how many clients it has.
    pub(crate) fn clients(self) -> u32 {
        match self {
            Self::Select { clients, .. } | Self::Connect { clients } => clients,
            Self::Bulk(_) => 1,
        }
    }
}
