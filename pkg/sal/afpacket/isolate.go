package afpacket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// isolation keeps the kernel's own network stack from the frames of a device: a
// filter at the device's ingress drops them all, behind the place where packet
// sockets have got theirs (tc-clsact, tc-bpf). Without it a kernel that has
// addresses answers beside the vRouter, and one that forwards lets packets
// around its policies.
//
// The filter outlives a process that is killed: until the next one comes, the
// device passes nothing. "tc qdisc del dev DEVICE clsact" takes it off by hand.
type isolation struct {
	fd    int // route netlink, in the device's namespace
	seq   uint32
	qdisc bool // it was made here
}

// rtnetlink(7), linux/pkt_sched.h, linux/pkt_cls.h
const (
	rtmNewQdisc, rtmDelQdisc     = 36, 37
	rtmNewTFilter, rtmDelTFilter = 44, 45

	clsactParent  = 0xfffffff1
	clsactHandle  = 0xffff0000
	ingressParent = 0xfffffff2

	tcaKind, tcaOptions                 = 1, 2
	tcaBPFOpsLen, tcaBPFOps, tcaBPFFlag = 4, 5, 8
	bpfDirectAction                     = 1
	actShot                             = 2 // TC_ACT_SHOT

	filterHandle = 1
	filterPrio   = 1 // before all others
)

// newIsolation opens what is needed, in the namespace of the calling thread.
func newIsolation() (*isolation, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("route netlink: %w", err)
	}
	return &isolation{fd: fd}, nil
}

// on isolates a device.
func (s *isolation) on(index int) error {
	err := s.call(rtmNewQdisc, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, clsactHandle, clsactParent, 0, attr(nil, tcaKind, []byte("clsact\x00")))
	if err == nil {
		s.qdisc = true
	} else if !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact: %w", err)
	}
	// A classic BPF program of one instruction: return the verdict.
	ret := ne.AppendUint16(nil, unix.BPF_RET|unix.BPF_K)
	ret = ne.AppendUint32(append(ret, 0, 0), actShot)
	o := attr(nil, tcaBPFOpsLen, ne.AppendUint16(nil, 1))
	o = attr(o, tcaBPFOps, ret)
	o = attr(o, tcaBPFFlag, ne.AppendUint32(nil, bpfDirectAction))
	a := attr(attr(nil, tcaKind, []byte("bpf\x00")), tcaOptions, o)
	err = s.call(rtmNewTFilter, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, filterHandle, ingressParent, filterInfo(), a)
	if err != nil && !errors.Is(err, unix.EEXIST) { // left behind by one that was killed
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// off gives the device back to the kernel.
func (s *isolation) off(index int) {
	_ = s.call(rtmDelTFilter, 0, index, filterHandle, ingressParent, filterInfo(), nil)
	if s.qdisc {
		_ = s.call(rtmDelQdisc, 0, index, clsactHandle, clsactParent, 0, nil)
		s.qdisc = false
	}
}

func (s *isolation) close() { unix.Close(s.fd) }

// filterInfo is priority and protocol of the filter.
func filterInfo() uint32 { return filterPrio<<16 | uint32(htons(unix.ETH_P_ALL)) }

// attr appends an attribute.
func attr(b []byte, typ uint16, v []byte) []byte {
	b = ne.AppendUint16(b, uint16(4+len(v)))
	b = ne.AppendUint16(b, typ)
	b = append(b, v...)
	return append(b, make([]byte, -len(v)&3)...)
}

// call sends a request about a device's traffic control and takes the answer.
func (s *isolation) call(typ, flags uint16, index int, handle, parent, info uint32, attrs []byte) error {
	s.seq++
	b := ne.AppendUint32(nil, uint32(16+20+len(attrs)))
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = ne.AppendUint32(b, s.seq)
	b = ne.AppendUint32(b, 0)
	b = append(b, unix.AF_UNSPEC, 0, 0, 0)
	for _, v := range []uint32{uint32(index), handle, parent, info} {
		b = ne.AppendUint32(b, v)
	}
	if err := unix.Sendto(s.fd, append(b, attrs...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var in [4096]byte
	for {
		n, _, err := unix.Recvfrom(s.fd, in[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		// An acknowledgement is an error message with error 0, alone.
		if n >= 20 && ne.Uint16(in[4:]) == unix.NLMSG_ERROR && ne.Uint32(in[8:]) == s.seq {
			if e := int32(ne.Uint32(in[16:])); e != 0 {
				return unix.Errno(-e)
			}
			return nil
		}
	}
}
