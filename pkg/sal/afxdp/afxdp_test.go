package afxdp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afxdp"
	"vrouter/pkg/sal/internal/nstest"
	"vrouter/pkg/sal/saltest"
)

func pool(t testing.TB, n int) *sal.Pool {
	t.Helper()
	p, err := sal.NewPoolLarge(n, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func open(t testing.TB, n *nstest.NS, d *afxdp.Driver, pl *sal.Pool, cfg sal.PortConfig) sal.Port {
	t.Helper()
	var p sal.Port
	var err error
	n.Do(func() { p, err = d.Open(cfg, pl) })
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

// receive waits for a frame of a type.
func receive(patience time.Duration, c *sal.Cache, q sal.PortQueue, typ uint16) []byte {
	var d [1]sal.Desc
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if q.RxBurst(c, d[:]) == 0 {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		f := bytes.Clone(c.Pool().Bytes(d[0]))
		c.FreeDescs(d[:])
		if binary.BigEndian.Uint16(f[12:]) == typ {
			return f
		}
	}
	return nil
}

func TestSuite(t *testing.T) { suite(t, saltest.RunPort, 1500) }

// TestJumbo: frames as long as the kernel lets them be; where it has them in several
// buffers, as long as with other drivers.
func TestJumbo(t *testing.T) {
	run, most := saltest.RunJumbo, afxdp.New(afxdp.Options{}).MaxMTU()
	if most <= sal.MaxFrame {
		run = saltest.RunPort
	}
	suite(t, run, most)
}

func suite(t *testing.T, run func(*testing.T, func(*testing.T) *saltest.PortRig), mtu int) {
	for mode, o := range map[string]afxdp.Options{sal.ModeCopy: {}, sal.ModeGeneric: {Generic: true}} {
		t.Run(mode, func(t *testing.T) {
			run(t, func(t *testing.T) *saltest.PortRig {
				mid, far := nstest.New(t), nstest.New(t)
				mid.Veth("p", far, "e")
				far.Quiet("e")
				far.Run("ip", "link", "set", "dev", "e", "mtu", fmt.Sprint(mtu))
				raw := far.Raw("e")
				pl := pool(t, 8192)
				d := afxdp.New(o)
				p := open(t, mid, d, pl, sal.PortConfig{Name: "wan", Device: "p", Queues: 1, MTU: mtu})
				if i := p.Info(); i.Mode != mode || i.Shared || i.IfIndex == 0 || !strings.HasPrefix(i.Why, map[string]string{sal.ModeCopy: "zero-copy: ", sal.ModeGeneric: "copy: "}[mode]) {
					t.Errorf("%+v", i)
				}
				rig := &saltest.PortRig{
					Within: mid.Do, Port: p, Pool: pl, MTU: mtu, Send: raw.Send, Recv: raw.Recv,
					Unplug: func() { far.Run("ip", "link", "set", "dev", "e", "down") },
					Plug:   func() { far.Run("ip", "link", "set", "dev", "e", "up") },
				}
				rig.Remove = func() { mid.Run("ip", "link", "del", "dev", "p") }
				rig.Restore = func() {
					mid.Veth("p", far, "e")
					far.Quiet("e")
					raw := far.Raw("e")
					rig.Send, rig.Recv = raw.Send, raw.Recv
				}
				rig.Open = func() sal.Port {
					return open(t, mid, d, pl, sal.PortConfig{Name: "wan", Device: "p", Queues: 1, MTU: 1500})
				}
				return rig
			})
		})
	}
}

// TestTCP runs TCP with the kernel's default offloads through two ports, in
// both families: checksums are left to the device, and nobody says so.
func TestTCP(t *testing.T) {
	for _, x := range []struct{ queues, of, mtu int }{{1, 1, 1500}, {2, 1, 1500}, {2, 2, 1500}, {2, 2, afxdp.New(afxdp.Options{}).MaxMTU()}} {
		t.Run(fmt.Sprintf("queues=%d/of=%d/mtu=%d", x.queues, x.of, x.mtu), func(t *testing.T) {
			left, mid, right := nstest.New(t), nstest.New(t), nstest.New(t)
			for a, n := range []*nstest.NS{left, right} {
				dev := []string{"l", "r"}[a]
				mid.Run("ip", "link", "add", "name", dev, "numrxqueues", fmt.Sprint(x.of), "numtxqueues", fmt.Sprint(x.of), "type", "veth", "peer", "name", "e",
					"numrxqueues", fmt.Sprint(x.of), "numtxqueues", fmt.Sprint(x.of), "netns", n.Name)
				mid.Quiet(dev)
				mid.Run("ip", "link", "set", "dev", dev, "up")
				n.Run("ip", "link", "set", "dev", "e", "up", "mtu", fmt.Sprint(x.mtu))
				n.Run("ip", "addr", "add", fmt.Sprintf("10.9.0.%d/24", a+1), "dev", "e")
				n.Run("ip", "addr", "add", fmt.Sprintf("fd09::%d/64", a+1), "dev", "e", "nodad")
			}
			pl := pool(t, 8192)
			d := afxdp.New(afxdp.Options{})
			l := up(t, open(t, mid, d, pl, sal.PortConfig{Name: "l", Queues: x.queues, MTU: x.mtu}))
			r := up(t, open(t, mid, d, pl, sal.PortConfig{Name: "r", Queues: x.queues, MTU: x.mtu}))
			stop := saltest.Wire(pl, l, r)
			left.Run("ping", "-c", "5", "-i", "0.01", "-W", "2", "-M", "do", "-s", fmt.Sprint(x.mtu-28), "10.9.0.2")
			nstest.TCP(t, left, right, "10.9.0.2", 1)
			nstest.TCP(t, right, left, "fd09::1", 1)
			stop()
			for _, p := range []sal.Port{l, r} {
				s := p.Stats()
				t.Logf("%s: %+v", p.Info().Mode, s)
				if s.RxErrors+s.RxUncut+s.TxErrors > 0 {
					t.Errorf("%+v", s)
				}
				p.Close()
			}
			if s := pl.Stats(); s.Free != s.Total {
				t.Errorf("buffers lost: %+v", s)
			}
		})
	}
}

// TestVLAN: tags that the sender's kernel keeps beside the frame come in it, and
// tags in the frame stay there.
func TestVLAN(t *testing.T) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	far.Quiet("e")
	raw := far.Raw("e")
	pl := pool(t, 4096)
	p := up(t, open(t, mid, afxdp.New(afxdp.Options{}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
	c := pl.NewCache()
	defer c.Close()
	frame := func(n int, typ uint16) []byte {
		f := make([]byte, n)
		for i := range f {
			f[i] = byte(i * 3)
		}
		f[0] = 2
		binary.BigEndian.PutUint16(f[12:], typ)
		return f
	}
	sizes := []int{60, 1000, 1514}
	for _, n := range sizes {
		f := frame(n, 0x8100)
		if err := raw.Send(f); err != nil {
			t.Fatal(err)
		}
		if g := receive(2*time.Second, c, p.Queue(0), 0x8100); !bytes.Equal(g, f) {
			t.Errorf("a tagged frame of %d bytes arrives as\n%x, sent\n%x", n, g, f)
		}
	}
	pushTag(t, far, "e", 0x6005)
	for _, n := range sizes {
		f := frame(n, 0x88b5)
		if err := raw.Send(f); err != nil {
			t.Fatal(err)
		}
		want := append(append(bytes.Clone(f[:12]), 0x81, 0, 0x60, 5), f[12:]...)
		if g := receive(2*time.Second, c, p.Queue(0), 0x8100); !bytes.Equal(g, want) {
			t.Errorf("a frame of %d bytes sent with a tag beside it arrives as\n%x, expected\n%x", n, g, want)
		}
	}
}

// pushTag has the kernel give what a device sends a VLAN tag, as a VLAN device
// on top of it would: beside the frame.
func pushTag(t *testing.T, n *nstest.NS, dev string, tci int32) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0x0081), asm.Mov.Imm(asm.R3, tci), asm.FnSkbVlanPush.Call(), asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	var l link.Link
	n.Do(func() {
		var i *net.Interface
		if i, err = net.InterfaceByName(dev); err == nil {
			l, err = link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: prog, Attach: ebpf.AttachTCXEgress})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestOpenErrors(t *testing.T) {
	nstest.Need(t, "ethtool")
	n := nstest.New(t)
	n.Run("ip", "link", "add", "name", "a", "numrxqueues", "2", "numtxqueues", "1", "type", "veth", "peer", "name", "b", "numtxqueues", "1")
	pl := pool(t, 1024)
	d := afxdp.New(afxdp.Options{})
	b := open(t, n, d, pl, sal.PortConfig{Name: "b", Queues: 1, MTU: 1500})
	for _, x := range []struct {
		cfg  sal.PortConfig
		err  error
		text string
	}{
		{sal.PortConfig{Name: "b", Queues: 1}, sal.ErrBusy, "in use"},
		{sal.PortConfig{Name: "none", Queues: 1}, sal.ErrNotFound, "none"},
		{sal.PortConfig{Name: "lo", Queues: 1}, sal.ErrNotSupported, "Ethernet"},
		{sal.PortConfig{Name: "a", Queues: 0}, sal.ErrInvalid, "0 queues"},
		{sal.PortConfig{Name: "a", Queues: 1, MTU: d.MaxMTU() + 1}, sal.ErrInvalid, fmt.Sprint("MTU ", d.MaxMTU()+1)},
		{sal.PortConfig{Name: "far too long a name", Queues: 1}, sal.ErrInvalid, "name"},
	} {
		var err error
		n.Do(func() {
			var p sal.Port
			if p, err = d.Open(x.cfg, pl); err == nil {
				p.Close()
			}
		})
		if !errors.Is(err, x.err) || !strings.Contains(err.Error(), x.text) {
			t.Errorf("%+v: %v", x.cfg, err)
		}
	}
	// Another process's program is not pushed aside.
	var err error
	n.Do(func() { _, err = afxdp.New(afxdp.Options{}).Open(sal.PortConfig{Name: "b", Queues: 1, MTU: 1500}, pl) })
	if !errors.Is(err, sal.ErrBusy) {
		t.Errorf("a device with a socket on it: %v", err)
	}
	// A device with more queues gives them up, and has them back afterwards.
	rx := func() string { return n.Run("sh", "-c", "ethtool -l a | awk '/^RX:/ {print $2}' | tail -1") }
	p := open(t, n, d, pl, sal.PortConfig{Name: "a", Queues: 1, MTU: 1500})
	if got := strings.TrimSpace(rx()); got != "1" {
		t.Errorf("a port with one queue leaves its device %s", got)
	}
	p.Close()
	b.Close()
	if got := strings.TrimSpace(rx()); got != "2" {
		t.Errorf("closed, it leaves its device %s queues", got)
	}
	if s := pl.Stats(); s.Free != s.Total {
		t.Errorf("buffers lost: %+v", s)
	}
}

// TestKilled: when a process is killed, its program is gone from the device.
func TestKilled(t *testing.T) {
	if ns := os.Getenv("AFXDP_TEST_CHILD"); ns != "" {
		pl := pool(t, 1024)
		p := up(t, open(t, nstest.Enter(t, ns), afxdp.New(afxdp.Options{}), pl, sal.PortConfig{Name: "a", Queues: 1, MTU: 1500}))
		fmt.Println("open:", p.Info().Mode)
		time.Sleep(time.Minute)
		return
	}
	n := nstest.New(t)
	n.Run("ip", "link", "add", "name", "a", "type", "veth", "peer", "name", "b")
	n.Run("ip", "link", "set", "dev", "b", "up")
	c := exec.Command(os.Args[0], "-test.run", "^TestKilled$", "-test.v")
	c.Env = append(os.Environ(), "AFXDP_TEST_CHILD="+n.Name)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	var text []byte
	for buf := make([]byte, 1024); !bytes.Contains(text, []byte("open:")); {
		k, err := out.Read(buf)
		if text = append(text, buf[:k]...); err != nil {
			t.Fatalf("the child ended: %s", text)
		}
	}
	if s := n.Run("ip", "link", "show", "dev", "a"); !strings.Contains(s, "xdp") {
		t.Fatalf("no program while the port is open: %s", s)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	for end := time.Now().Add(5 * time.Second); strings.Contains(n.Run("ip", "link", "show", "dev", "a"), "xdp"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the program outlives its process")
		}
	}
	pl := pool(t, 1024)
	open(t, n, afxdp.New(afxdp.Options{}), pl, sal.PortConfig{Name: "a", Queues: 1, MTU: 1500})
}

// TestRingSize: as many buffers as were asked for wait for frames, rounded up,
// and not more than the pool can spare.
func TestRingSize(t *testing.T) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	pl := pool(t, 4096)
	d := afxdp.New(afxdp.Options{})
	cfg := sal.PortConfig{Name: "p", Queues: 1, MTU: 1500, Params: sal.PortParams{Ring: 100}}
	p := open(t, mid, d, pl, cfg)
	if n := p.Queue(0).Held(); n != 128 {
		t.Errorf("%d buffers wait for frames", n)
	}
	p.Close()
	cfg.Params.Ring = 2049
	mid.Do(func() {
		if _, err := d.Open(cfg, pl); !errors.Is(err, sal.ErrInvalid) {
			t.Errorf("a ring of the whole pool: %v", err)
		}
	})
	if s := pl.Stats(); s.Free != s.Total {
		t.Errorf("buffers lost: %+v", s)
	}
}
