package tap_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/nstest"
	"vrouter/pkg/sal/saltest"
	"vrouter/pkg/sal/tap"
)

func pool(t testing.TB, n int) *sal.Pool {
	t.Helper()
	p, err := sal.NewPoolLarge(n, 512)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func open(t testing.TB, n *nstest.NS, pl *sal.Pool, cfg sal.PortConfig) sal.Port {
	t.Helper()
	var p sal.Port
	var err error
	n.Do(func() { p, err = tap.New(tap.Options{}).Open(cfg, pl) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func up(t testing.TB, p sal.Port) sal.Port {
	t.Helper()
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); !p.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no link")
		}
	}
	return p
}

func TestSuite(t *testing.T) { saltest.RunPort(t, rig(1500)) }

func TestJumboSuite(t *testing.T) { saltest.RunJumbo(t, rig(sal.MaxMTU)) }

func rig(mtu int) func(t *testing.T) *saltest.PortRig {
	return func(t *testing.T) *saltest.PortRig {
		n := nstest.New(t)
		pl := pool(t, 8192)
		rig := &saltest.PortRig{
			Within: n.Do, Pool: pl, MTU: mtu,
			Unplug: func() { n.Run("ip", "link", "set", "dev", "tp0", "down") },
			Plug:   func() { n.Run("ip", "link", "set", "dev", "tp0", "up") },
			Remove: func() { n.Run("ip", "link", "del", "dev", "tp0") },
		}
		rig.Restore = func() {} // the port makes it
		rig.Open = func() sal.Port {
			p := open(t, n, pl, sal.PortConfig{Name: "lan", Device: "tp0", Queues: 1, MTU: mtu})
			n.Quiet("tp0")
			raw := n.Raw("tp0")
			rig.Send, rig.Recv = raw.Send, raw.Recv
			return p
		}
		rig.Port = rig.Open()
		return rig
	}
}

// TestTCP connects two kernels by two TAP devices and runs TCP with their
// default offloads.
func TestTCP(t *testing.T) {
	for _, x := range []struct{ queues, mtu int }{{1, 1500}, {2, 1500}, {1, sal.MaxMTU}} {
		left, right := nstest.New(t), nstest.New(t)
		pl := pool(t, 8192)
		cfg := sal.PortConfig{Name: "tp0", Queues: x.queues, MTU: x.mtu}
		l, r := up(t, open(t, left, pl, cfg)), up(t, open(t, right, pl, cfg))
		for a, n := range map[string]*nstest.NS{"1": left, "2": right} {
			n.Run("ip", "addr", "add", "10.9.0."+a+"/24", "dev", "tp0")
			n.Run("ip", "addr", "add", "fd09::"+a+"/64", "dev", "tp0", "nodad")
		}
		stop := saltest.Wire(pl, l, r)
		left.Run("ping", "-c", "3", "-i", "0.01", "-W", "2", "10.9.0.2")
		nstest.TCP(t, left, right, "10.9.0.2", 1)
		nstest.TCP(t, right, left, "fd09::1", 1)
		stop()
		for _, p := range []sal.Port{l, r} {
			if s := p.Stats(); s.RxErrors+s.RxUncut+s.TxErrors > 0 {
				t.Errorf("%+v", s)
			}
			p.Close()
		}
		if s := pl.Stats(); s.Free != s.Total {
			t.Errorf("buffers lost: %+v", s)
		}
	}
}

// TestJoined: as af-packet, a device is given consecutive segments together.
func TestJoined(t *testing.T) {
	for single, want := range map[bool]int{false: 5, true: 60} {
		n := nstest.New(t)
		pl := pool(t, 4096)
		var p sal.Port
		var err error
		n.Do(func() {
			p, err = tap.New(tap.Options{Single: single}).Open(sal.PortConfig{Name: "tp0", Queues: 1, MTU: 1500}, pl)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		n.Quiet("tp0")
		raw := n.Raw("tp0")
		nstest.Joined(t, pl, up(t, p).Queue(0), raw, want)
	}
}

// BenchmarkSend hands bursts of full segments of one TCP connection to a device.
func BenchmarkSend(b *testing.B) {
	for _, single := range []bool{false, true} {
		b.Run(map[bool]string{false: "joined", true: "single"}[single], func(b *testing.B) {
			n := nstest.New(b)
			pl := pool(b, 4096)
			var p sal.Port
			var err error
			n.Do(func() {
				p, err = tap.New(tap.Options{Single: single}).Open(sal.PortConfig{Name: "tp0", Queues: 1, MTU: 1500}, pl)
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { p.Close() })
			n.Quiet("tp0")
			q, c := up(b, p).Queue(0), pl.NewCache()
			defer c.Close()
			burst, sent := nstest.Segments(pl, c, 64, 1446), 0
			for b.Loop() {
				sent += q.TxBurst(c, burst())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/pkt")
		})
	}
}

// TestAddQueues: a device made for several queues gets more while frames come: none
// is lost, each comes once, and each queue sends.
func TestAddQueues(t *testing.T) {
	n := nstest.New(t)
	pl := pool(t, 4096)
	p := open(t, n, pl, sal.PortConfig{Name: "lan", Device: "tp0", Queues: 2, MTU: 1500})
	n.Quiet("tp0")
	raw, c := n.Raw("tp0"), pl.NewCache()
	defer c.Close()
	up(t, p)
	const each, queues = 40, 4
	send := func(from int) {
		for i := from; i < from+each; i++ {
			f := nstest.Frame(64 + i)
			if err := raw.Send(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0)
	var err error
	n.Do(func() { err = p.(sal.QueueAdder).AddQueues(queues) })
	if err != nil || p.Info().Queues != queues {
		t.Fatalf("%v, %d queues", err, p.Info().Queues)
	}
	send(each)
	seen := map[uint16]int{}
	var d [8]sal.Desc
	for end := time.Now().Add(5 * time.Second); len(seen) < 2*each && time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		for k := range queues {
			m := p.Queue(k).RxBurst(c, d[:])
			for _, x := range d[:m] {
				seen[x.Len()]++
			}
			c.FreeDescs(d[:m])
		}
	}
	for i := range 2 * each {
		if seen[uint16(64+i)] != 1 {
			t.Errorf("the frame of %d bytes comes %d times", 64+i, seen[uint16(64+i)])
		}
	}
	for k := range queues {
		b, _ := c.Alloc()
		x := sal.MakeDesc(b, sal.Headroom, uint16(200+k))
		copy(pl.Bytes(x), nstest.Frame(200+k))
		if p.Queue(k).TxBurst(c, []sal.Desc{x}) != 1 {
			t.Errorf("queue %d takes no frame", k)
		} else if got := raw.Recv(); len(got) != 200+k {
			t.Errorf("sent into queue %d: %d bytes", k, len(got))
		}
	}
}

// TestDevice looks at the device from the host's side.
func TestDevice(t *testing.T) {
	n, guest := nstest.New(t), nstest.New(t)
	pl := pool(t, 64)
	p := open(t, n, pl, sal.PortConfig{Name: "lan", Device: "tp0", Queues: 2, MTU: 1400})
	show := func() string { return n.Run("ip", "-d", "link", "show", "tp0") }
	if s := show(); !strings.Contains(s, "mtu 1400") || strings.Contains(s, ",UP") {
		t.Errorf("before SetUp:\n%s", s)
	}
	up(t, p)
	i := p.Info()
	if s := show(); !strings.Contains(s, "LOWER_UP") || i.IfIndex == 0 || i.Device != "tp0" {
		t.Errorf("up: %+v\n%s", i, s)
	}
	if err := p.(interface{ SetMTU(int) error }).SetMTU(1300); err != nil {
		t.Error(err)
	}
	if s := show(); !strings.Contains(s, "mtu 1300") || !strings.Contains(s, "LOWER_UP") {
		t.Errorf("with another MTU:\n%s", s)
	}
	if err := p.SetUp(false); err != nil {
		t.Fatal(err)
	}
	if s := show(); !strings.Contains(s, "NO-CARRIER") {
		t.Errorf("down:\n%s", s)
	}
	// Moved into a container, renamed, and set up there.
	up(t, p)
	n.Run("ip", "link", "set", "dev", "tp0", "netns", guest.Name)
	guest.Run("ip", "link", "set", "dev", "tp0", "name", "eth0")
	n.Do(func() { // by that name another device would be made
		if err := p.(sal.QueueAdder).AddQueues(3); !errors.Is(err, sal.ErrNotSupported) || p.Info().Queues != 2 {
			t.Errorf("a queue of a device that was moved: %v", err)
		}
	})
	for end := time.Now().Add(5 * time.Second); p.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("link, though it is down in the container")
		}
	}
	guest.Run("ip", "link", "set", "dev", "eth0", "up")
	for end := time.Now().Add(5 * time.Second); !p.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no link, though it is up in the container")
		}
	}
	p.Close()
	if s := guest.Run("ip", "link"); strings.Contains(s, "eth0") {
		t.Errorf("the device is left behind:\n%s", s)
	}
}

// TestPersistent: a device made by the administrator is used and left alone.
func TestPersistent(t *testing.T) {
	n := nstest.New(t)
	n.Run("ip", "tuntap", "add", "tp0", "mode", "tap", "vnet_hdr")
	n.Run("ip", "addr", "add", "10.1.1.1/24", "dev", "tp0")
	pl := pool(t, 64)
	p := up(t, open(t, n, pl, sal.PortConfig{Name: "tp0", Queues: 1, MTU: 1500}))
	n.Do(func() {
		if _, err := tap.New(tap.Options{}).Open(sal.PortConfig{Name: "tp0", Queues: 1, MTU: 1500}, pl); !errors.Is(err, sal.ErrBusy) {
			t.Errorf("opened twice: %v", err)
		}
		if _, err := tap.New(tap.Options{}).Open(sal.PortConfig{Name: "tp0", Queues: 2, MTU: 1500}, pl); !errors.Is(err, sal.ErrInvalid) {
			t.Errorf("two queues of a device for one: %v", err)
		}
		if _, err := tap.New(tap.Options{}).Open(sal.PortConfig{Name: "lo", Queues: 1, MTU: 1500}, pl); !errors.Is(err, sal.ErrInvalid) {
			t.Errorf("a device that is no TAP: %v", err)
		}
	})
	p.Close()
	if s := n.Run("ip", "addr", "show", "tp0"); !strings.Contains(s, "10.1.1.1") {
		t.Errorf("the administrator's device lost its address:\n%s", s)
	}
	up(t, open(t, n, pl, sal.PortConfig{Name: "tp0", Queues: 1, MTU: 1500}))
}

func TestRefusals(t *testing.T) {
	pl := pool(t, 16)
	for name, cfg := range map[string]sal.PortConfig{
		"no queue": {Name: "tp0"}, "no name": {Queues: 1}, "MTU": {Name: "tp0", Queues: 1, MTU: 9217},
		"long name": {Name: "a-name-of-17-byte", Queues: 1},
	} {
		if _, err := tap.New(tap.Options{}).Open(cfg, pl); !errors.Is(err, sal.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tap.New(tap.Options{Device: "/dev/null"}).Open(sal.PortConfig{Name: "tp0", Queues: 1}, pl); err == nil {
		t.Error("a device from /dev/null")
	}
}
