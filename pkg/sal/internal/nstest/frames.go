package nstest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Raw is a packet socket on a device: the far end of a cable in tests.
type Raw struct {
	fd    int
	index int
	buf   [1 << 16]byte
}

// Raw opens a packet socket on a device of the namespace.
func (n *NS) Raw(dev string) *Raw {
	n.t.Helper()
	r := &Raw{fd: -1}
	var err error
	n.Do(func() {
		proto := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		if r.index, err = index(r.fd, dev); err == nil {
			err = unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: r.index})
		}
	})
	if err != nil {
		n.t.Fatalf("packet socket on %s: %v", dev, err)
	}
	n.t.Cleanup(func() { unix.Close(r.fd) })
	_ = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	_ = unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	return r
}

func index(fd int, dev string) (int, error) {
	r, err := unix.NewIfreq(dev)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		return 0, err
	}
	return int(r.Uint32()), nil
}

// Send sends a frame.
func (r *Raw) Send(f []byte) error {
	err := unix.Sendto(r.fd, f, 0, &unix.SockaddrLinklayer{Ifindex: r.index})
	if err == unix.ENETDOWN { // perhaps of a time gone by: the socket keeps it until asked
		err = unix.Sendto(r.fd, f, 0, &unix.SockaddrLinklayer{Ifindex: r.index})
	}
	if err != nil {
		return fmt.Errorf("sending a frame of %d bytes: %w", len(f), err)
	}
	return nil
}

// Offload makes Send and Recv work with a virtio-net header in front of each
// frame, so that a test can send what only a device may finish.
func (r *Raw) Offload() error {
	return unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
}

// Recv waits up to 200 ms for a frame; nil when none comes.
func (r *Raw) Recv() []byte {
	for {
		switch n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}, 200); {
		case err == unix.EINTR: // the runtime preempts by signals
			continue
		case n <= 0:
			return nil
		}
		n, _, err := unix.Recvfrom(r.fd, r.buf[:], unix.MSG_DONTWAIT)
		switch err {
		case nil:
			return append([]byte(nil), r.buf[:n]...)
		case unix.ENETDOWN, unix.EINTR:
		default:
			return nil
		}
	}
}

// TCP sends TCP from one namespace to an address of another for so many
// seconds, with the kernels' default offloads. It gives what came through in
// Gbit/s, and fails the test when that is next to nothing or was damaged.
func TCP(t testing.TB, from, to *NS, addr string, seconds int) (gbit float64) {
	t.Helper()
	Need(t, "iperf3")
	const port = "5201"
	to.Start("iperf3", "-s", "-1", "-p", port)
	to.waitListen(port)
	out := from.Run("iperf3", "-c", addr, "-p", port, "-t", fmt.Sprint(seconds), "--connect-timeout", "5000", "-J")
	got, retransmits := iperf(t, out)
	t.Logf("TCP to %s: %.2f Gbit/s, %d retransmits", addr, got*8/1e9/float64(seconds), retransmits)
	if got < 100e3 { // how fast is not judged: whether TCP gets along is
		t.Errorf("TCP to %s: only %.0f bytes came through in %d s", addr, got, seconds)
	}
	for _, n := range []*NS{from, to} {
		if s := n.Counter("TcpInCsumErrors"); s != "0" {
			t.Errorf("TCP checksum errors: %s", s)
		}
	}
	return got * 8 / 1e9 / float64(seconds)
}
