//! The same calls by io_uring.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::agent;
use crate::bed::{self, Bed, Child};

/// A ring of four, and `submit`, which makes one request and answers its result. Layouts are those
/// of the kernel's include/uapi/linux/io_uring.h.
const RING: &str = "import ctypes,mmap,socket,struct,sys
c=ctypes.CDLL(None,use_errno=True)
p=bytearray(120)
fd=c.syscall(425,4,(ctypes.c_char*120).from_buffer(p))
if fd<0:
    print('none',ctypes.get_errno(),flush=True)
    sys.exit()
sq=struct.unpack_from('<8I',p,40)
cq=struct.unpack_from('<8I',p,80)
ring=mmap.mmap(fd,4096,offset=0)
entries=mmap.mmap(fd,4096,offset=0x10000000)
word=lambda at:struct.unpack_from('<I',ring,at)[0]
def submit(op,f,address,length,extra):
    tail=word(sq[1]); at=tail&word(sq[2])
    struct.pack_into('<BBHiQQI36x',entries,at*64,op,0,0,f,extra,address,length)
    struct.pack_into('<I',ring,sq[6]+4*at,at)
    struct.pack_into('<I',ring,sq[1],tail+1)
    assert c.syscall(426,fd,1,1,1,0,0)==1,ctypes.get_errno()
    head=word(cq[0])
    answer=struct.unpack_from('<Qi',ring,cq[5]+16*(head&word(cq[2])))[1]
    struct.pack_into('<I',ring,cq[0],head+1)
    return answer
def to(host,port):
    return ctypes.create_string_buffer(struct.pack('=HH4s8x',2,socket.htons(port),socket.inet_aton(host)))
";

/// IORING_OP_CONNECT and IORING_OP_SENDMSG.
const CALLS: &str = "t=socket.socket()
a=to('203.0.113.7',5432)
print('ready',flush=True)
connected=submit(16,t.fileno(),ctypes.addressof(a),0,16)
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
b=to('203.0.113.7',443)
data=ctypes.create_string_buffer(b'x')
part=ctypes.create_string_buffer(struct.pack('<QQ',ctypes.addressof(data),1))
message=ctypes.create_string_buffer(struct.pack('<QI4xQQQQI4x',ctypes.addressof(b),16,ctypes.addressof(part),1,0,0,0))
print(connected,submit(9,u.fileno(),ctypes.addressof(message),1,0),*t.getpeername(),flush=True)
sys.stdin.read()";

#[test]
fn requests_by_io_uring_are_redirected_and_refused_alike() {
    let bed = Bed::new(15170);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut child = Child::python(&enrolled.path, &format!("{RING}{CALLS}"));
    let begun = child.line();
    if begun != "ready" {
        println!("not run: this kernel lends no io_uring ({begun})");
        return;
    }
    let (socket, source) = bed::accept(&v4);
    let accepted = kernel.accepted(socket.as_fd(), source).unwrap();
    let target: SocketAddr = "203.0.113.7:5432".parse().unwrap();
    assert_eq!(accepted.orig_dst.0, target);
    assert_eq!(accepted.process.key.tgid, child.pid());
    assert_eq!(child.line(), "0 -111 203.0.113.7 5432");
}
