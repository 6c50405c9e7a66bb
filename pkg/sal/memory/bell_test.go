package memory

import (
	"testing"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// TestBell: one bell for many queues; rung once however much comes, silent once
// answered, and never rung for a queue that has left it.
func TestBell(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	rung := func() uint64 { // how often the descriptor was written to
		var b [8]byte
		if n, _ := unix.Read(fd, b[:]); n != 8 {
			return 0
		}
		return uint64(b[0])
	}
	pl := pool(t, 4096) // each end hoards some
	d := New(Options{})
	var bell sal.Bell
	bell.Init(fd)
	ports := map[string]sal.Port{}
	for _, n := range []string{"a", "b"} {
		ports[n] = open(t, d, pl, n, 1)
		d.Peer(n)
		ports[n].Queue(0).(sal.Ringer).RingAt(&bell)
	}
	if !bell.Answer() || rung() != 1 {
		t.Error("what may wait already was not told of")
	}
	if bell.Answer() || rung() != 0 {
		t.Error("rung by nobody")
	}
	d.Peer("a").Inject([]byte("one"), []byte("two"))
	d.Peer("b").Inject([]byte("three"))
	d.Peer("a").Inject([]byte("four"))
	if n := rung(); n != 1 {
		t.Errorf("rung %d times", n)
	}
	if !bell.Answer() {
		t.Error("rung, and does not know of it")
	}
	d.Peer("b").Inject([]byte("five"))
	if !bell.Answer() || rung() != 1 {
		t.Error("not rung again")
	}
	ports["b"].Queue(0).(sal.Ringer).RingAt(nil)
	d.Peer("b").Inject([]byte("six"))
	if bell.Answer() || rung() != 0 {
		t.Error("rung for a queue that has left")
	}
	if f, err := unix.FcntlInt(uintptr(ports["a"].Queue(0).Wake()), unix.F_GETFD, 0); err != nil || f < 0 {
		t.Error("the descriptor of its own is gone:", err)
	}
}
