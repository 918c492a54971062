//! Kinds of sockets, and the daemon's own ports.

use super::try_in;
use crate::agent;
use crate::bed::Bed;

#[test]
fn agents_have_sockets_of_tcp_udp_and_ping_alone() {
    let bed = Bed::new(15130);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let make = |family: &str, kind: &str, protocol: u32| {
        format!("'made' if socket({family},{kind},{protocol}) else ''")
    };
    for family in ["AF_INET", "AF_INET6"] {
        for (kind, protocol) in
            [("SOCK_STREAM", 0), ("SOCK_STREAM", 6), ("SOCK_DGRAM", 0), ("SOCK_DGRAM", 17)]
        {
            assert_eq!(try_in(&enrolled.path, &make(family, kind, protocol)), "made");
        }
        // UDP-Lite, MPTCP, raw, in this order; an outsider may have what this kernel has.
        for (kind, protocol, errno) in
            [("SOCK_DGRAM", 136, 93), ("SOCK_STREAM", 262, 93), ("SOCK_RAW", 255, 1)]
        {
            let socket = make(family, kind, protocol);
            assert_eq!(try_in(&bed.outside(), &socket), "made", "{socket}");
            assert_eq!(try_in(&enrolled.path, &socket), format!("error {errno}"), "{socket}");
        }
        // SCTP, which few kernels have built in.
        for kind in ["SOCK_STREAM", "SOCK_SEQPACKET"] {
            let answer = try_in(&enrolled.path, &make(family, kind, 132));
            assert!(answer == "error 93" || answer == "error 94", "{answer}");
        }
    }
    for (family, protocol) in [("AF_INET", 1), ("AF_INET6", 58)] {
        let ping = make(family, "SOCK_DGRAM", protocol);
        assert_eq!(try_in(&enrolled.path, &ping), try_in(&bed.outside(), &ping));
    }
    assert_eq!(try_in(&enrolled.path, &make("AF_UNIX", "SOCK_STREAM", 0)), "made");
}

#[test]
fn agents_cant_take_the_daemons_ports() {
    let bed = Bed::new(15131);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // Nobody listens there: what refuses is the hook, not another's socket.
    for port in [15131, bed.dns_port()] {
        for kind in ["SOCK_STREAM", "SOCK_DGRAM"] {
            for (family, host) in
                [("AF_INET", ""), ("AF_INET", "127.0.0.1"), ("AF_INET6", "::"), ("AF_INET6", "::1")]
            {
                let bind = format!("socket({family},{kind}).bind(('{host}',{port}))");
                assert_eq!(try_in(&enrolled.path, &bind), "error 98", "{bind}");
                assert_eq!(try_in(&bed.outside(), &bind), "None", "{bind}");
            }
        }
    }
    for port in [0, 15631] {
        let bind = format!("socket(AF_INET,SOCK_STREAM).bind(('127.0.0.1',{port}))");
        assert_eq!(try_in(&enrolled.path, &bind), "None");
    }
}
