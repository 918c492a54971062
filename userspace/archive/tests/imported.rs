//! What was imported is marked in every row, and nothing else can be.

mod common;

use archive::scan::{self, Filter, ScanError};
use archive::verify::{Level, Options, verify};
use common::Node;
use journal::imported;
use journal::row::{Row, Table};

#[test]
fn every_row_of_an_import_is_marked_and_the_verifier_says_so() {
    let mut node = Node::start_as("import.0011223344556677", 1024 * 1024);
    node.session(20);
    node.heartbeat();
    node.seal();
    let report = verify(&Options::new(node.archive())).unwrap();
    assert!(report.is_ok(), "{report}");
    let told = report.to_string();
    assert!(told.contains("was imported from a capture: nobody intercepted or decided"), "{told}");
    let mut rows = 0;
    for table in Table::ALL {
        scan::scan(&node.archive(), table, &Filter::default(), &mut |row| {
            let mark = match &row {
                Row::Event(row) => row.statement.kind.as_str(),
                Row::Session(row) => row.assurance.as_str(),
                Row::Control(row) => row.kind.as_str(),
                Row::Recording(row) => row.stream.as_str(),
            };
            assert!(imported::is_import(row.node()) && imported::is_mark(table, mark), "{row:?}");
            if let Row::Event(row) = &row {
                assert_eq!(
                    (&*row.session.assurance, &*row.decision, row.session.pid),
                    ("imported", "none", None)
                );
            }
            rows += 1;
            Ok::<(), ScanError>(())
        })
        .unwrap();
    }
    assert!(rows > 40, "{rows}");
}

#[test]
fn a_host_that_marks_a_row_as_imported_is_found_out() {
    let mut node = Node::start(1024 * 1024);
    node.session(5);
    node.last = node.recorder.control("import.begin", "{}").unwrap();
    node.seal();
    let report = verify(&Options::new(node.archive())).unwrap();
    assert_eq!(report.lowest_failed(), Some(Level::Rows), "{report}");
    let told = report.to_string();
    assert!(told.contains("1 records are marked as imported, and 0 must be"), "{told}");
}
