//! Every bound in one place, each with its arithmetic.

/// Sessions at once: 10,000 agents' connections; each costs about [`SESSION_BYTES_MAX`] only while
/// it moves data, so idle ones together stay near 10,000 × 16 KiB = 160 MiB.
pub const SESSIONS_MAX: usize = 10_000;

/// What one session may hold: 2 × [`TRANSMIT_BYTES_HIGH`] + [`MESSAGE_BYTES_MAX`] + 1 × sample and statements.
pub const SESSION_BYTES_MAX: usize = 2 * TRANSMIT_BYTES_HIGH + MESSAGE_BYTES_MAX + 256 * 1024;

/// One read from a socket: large enough that a bulk result costs one system call per 64 KiB.
pub const READ_BYTES: usize = 64 * 1024;

/// Bytes waiting to be written on one side above which the other side is not read: two reads.
pub const TRANSMIT_BYTES_HIGH: usize = 2 * READ_BYTES;

/// The largest message that is held whole: Parse, Query, Bind (a statement policy must see whole).
/// 16 MiB takes the 10 MB statement that bulk loaders send; larger ones are refused.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A startup packet: PostgreSQL's own MAX_STARTUP_PACKET_LENGTH.
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// A row that is held whole to be masked; of a larger one the values are masked in pieces.
pub const ROW_BYTES_MAX: usize = 1024 * 1024;

/// The longest text any recognizer can match: an IBAN of 34 characters with blanks, an e-mail
/// address of 254 (RFC 5321 §4.5.3.1).
pub const RECOGNIZER_SPAN_MAX: usize = 256;

/// The response sample of one command where policy asks for a longer one: `@record`; 64 KiB in each
/// command in flight is as much as its own statement may have.
pub const RESPONSE_RECORD_BYTES_MAX: usize = 64 * 1024;

/// The head of an HTTP request: eight times what common servers take (8 KiB), so that cookies and tokens fit; hyper
/// holds as much again while it reads.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Header fields of an HTTP request or answer: hyper's own default.
pub const HTTP_HEADERS_MAX: usize = 100;

/// The path of an HTTP request, decoded, and its parts: each is an entity of policies, 64 × 2 KiB = 128 KiB.
pub const HTTP_PATH_BYTES_MAX: usize = 2 * 1024;

/// Parts of the path of an HTTP request.
pub const HTTP_PATH_PARTS_MAX: usize = 64;

/// The query of an HTTP request; more belongs into a body.
pub const HTTP_QUERY_BYTES_MAX: usize = 16 * 1024;

/// Parameters of a query.
pub const HTTP_PARAMETERS_MAX: usize = 256;

/// Columns of one command in the record.
pub const COLUMNS_MAX: usize = 256;

/// The response sample of one command.
pub const RESPONSE_SAMPLE_BYTES_MAX: usize = 4 * 1024;

/// Blind tokens of one command in the record: 512 × 8 B = 4 KiB in the journal. A list that is longer is cut, and
/// the record says so.
pub const BLIND_TOKENS_MAX: usize = 512;

/// One bound parameter's value in the record.
pub const PARAMETER_BYTES_MAX: usize = 1024;

/// Bound parameters recorded of one command; the protocol itself allows 65,535.
pub const PARAMETERS_MAX: usize = 256;

/// A statement's text in the record: 64 KiB; the digest covers the whole.
pub const STATEMENT_TEXT_BYTES_MAX: usize = 64 * 1024;

/// A command line in the record: what the kernel programs copy of one exec, a page.
pub const COMMAND_LINE_BYTES_MAX: usize = 4 * 1024;

/// Arguments of a command line in the record.
pub const ARGUMENTS_MAX: usize = 64;

/// Commands of one session sent and not yet answered (pipelining): 4,096 × about 200 B = 800 KiB.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 4_096;

/// Prepared statements and portals one session may hold: 8,192 × about 300 B = 2.4 MiB.
pub const PREPARED_MAX: usize = 8_192;

/// Analysed statements kept per node: 16,384 × about 2 KiB = 32 MiB, and as many by their shape. Texts over 16 KiB
/// are not kept.
pub const STATEMENT_CACHE_ENTRIES: usize = 16_384;

/// The longest text kept in the statement cache.
pub const STATEMENT_CACHE_TEXT_MAX: usize = 16 * 1024;

/// Frames waiting for the journal's committer: 16 MiB, a quarter of a segment; beyond it appending
/// blocks the command, never loses it.
pub const JOURNAL_PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Rows of one catalog probe: every column of 2,000 tagged tables of 50 columns, and one for each of
/// 100,000 relations.
pub const PROBE_ROWS_MAX: usize = 200_000;

/// Bytes of one catalog probe: 200,000 rows of about 80 B.
pub const PROBE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one chunk of a sealed recording holds before it is compressed: one read's worth, with which a session's buffer
/// is full. 10,000 sessions that all relay at once: 640 MiB; idle ones keep [`RECORDING_KEPT_BYTES`].
pub const RECORDING_CHUNK_BYTES_MAX: usize = READ_BYTES;

/// What a session's buffer for recordings keeps between chunks: 10,000 × 4 KiB = 40 MiB.
pub const RECORDING_KEPT_BYTES: usize = 4 * 1024;

/// A chunk as it is in the journal: zstd makes at most 0.4 % more of what does not compress, and the tag is 16 B.
pub const RECORDING_SEALED_BYTES_MAX: usize = RECORDING_CHUNK_BYTES_MAX + 1024;

/// To how many public keys recordings are sealed: audit, escrow, and room to replace both.
pub const RECORDING_RECIPIENTS_MAX: usize = 8;
