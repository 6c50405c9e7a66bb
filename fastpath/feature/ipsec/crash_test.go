package ipsec_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/pool"
)

// childEnv tells the child process of TestKilled its state directory.
const childEnv = "VROUTER_TEST_ESP_STATE"

// TestKilled kills a process that encrypts as fast as it can, at any moment, and
// starts it again, many times. All that has left it, from the first to the last,
// holds no number twice, under three keys, with SAs being set again, deleted and
// added all the while. An engine in mode protocol gives the numbers of two of them, of
// one not always.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	peers := map[uint32]*peer{}
	for _, a := range childSAs() {
		peers[a.SPI] = peerOf(a)
	}
	seen := map[uint64]bool{}
	most := map[uint32]uint64{}
	for round := range 12 {
		n := runAndKill(t, dir, time.Duration(r.IntN(150))*time.Millisecond, func(frame []byte) {
			esp := frame[34:]
			spi, seq := binary.BigEndian.Uint32(esp), binary.BigEndian.Uint64(esp[8:]) // the IV is the whole number
			if p := peers[spi]; p == nil || len(seen)%64 == 0 {
				p.seq = seq - 1
				if _, err := p.open(frame[14:]); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			if id := uint64(spi)<<48 | seq; seen[id] {
				t.Fatalf("round %d: number %d twice under SPI %#x", round, seq, spi)
			} else {
				seen[id] = true
			}
			most[spi] = max(most[spi], seq)
		})
		if n == 0 {
			t.Fatalf("round %d: nothing came out", round)
		}
	}
	for spi, seq := range most {
		if seq < 1000 {
			t.Errorf("SPI %#x only got to %d", spi, seq)
		}
	}
	t.Logf("%d packets in 12 lives", len(seen))
}

// runAndKill runs the child for so long after its first packet, and gives every
// frame that has left it.
func runAndKill(t *testing.T, dir string, life time.Duration, frame func([]byte)) (n int) {
	t.Helper()
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.ExtraFiles = []*os.File{wr}
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wr.Close()
	kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	in := bufio.NewReaderSize(rd, 1<<16)
	for {
		var l [2]byte
		if _, err := io.ReadFull(in, l[:]); err != nil {
			break
		}
		b := make([]byte, binary.BigEndian.Uint16(l[:]))
		if _, err := io.ReadFull(in, b); err != nil {
			break // killed in the middle of a frame
		}
		if n == 0 {
			kill.Reset(life)
		}
		n++
		frame(b)
	}
	kill.Stop()
	_ = cmd.Process.Kill()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child ended by itself: %v\n%s", err, out.b)
	}
	return n
}

// tail keeps the end of what is written.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-4096):]
	return len(b), nil
}

func childSAs() (l []ipsec.SA) {
	for i := range 3 {
		a := testSA(fmt.Sprint("k", i), sal.Outbound, false)
		a.SPI, a.ReqID, a.Key, a.ESN = 0x6000+uint32(i), uint64(i), key(600+i, 20), i == 2
		a.Selector.Remote = prefix(fmt.Sprintf("10.2.%d.0/24", i))
		if i > 0 {
			asProtocol(&a)
		}
		l = append(l, a)
	}
	return l
}

// TestKilledChild is the process that TestKilled kills.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("runs as a child of TestKilled only")
	}
	reg := &sal.Registry{}
	reg.AddDriver(&wire{out: os.NewFile(3, "wire")})
	reg.AddDevice(cpu.New("cpu"))
	threads, err := pool.New("pool0", cpu.New("threads"), pool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reg.AddDevice(threads)
	e, err := fastpath.New(fastpath.Options{Registry: reg, StateDir: dir, MaxSAs: 64, Buffers: 4096, Flows4: 1 << 10, Flows6: 1 << 10, Routes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(c *fastpath.Change) {
		tk, err := e.Prepare(t.Context(), c)
		if err == nil {
			err = e.Publish(t.Context(), tk)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lan, wan := testbed.Iface("lan", lanMAC, "10.1.0.1/24"), testbed.Iface("wan", wanMAC, own4+"/24")
	lan.Driver, wan.Driver = "wire", "wire"
	ch := &fastpath.Change{Iface: iface.Change{Set: []iface.Config{lan, wan}},
		Neigh: neigh.Change{Set: []neigh.Config{testbed.Neigh("wan", peer4, peerMAC)}},
		Route: route.Change{Set: testbed.Connected(lan, wan)}}
	all := childSAs()
	for i := range all {
		ch.IPsec.SetSA = append(ch.IPsec.SetSA, all[i])
		ch.IPsec.SetPolicy = append(ch.IPsec.SetPolicy, protect(&all[i]))
	}
	apply(ch)
	for n := 0; ; n++ { // until killed
		a := all[n%3]
		if n/24%2 == 1 && n%3 == 1 {
			a.Offload = ipsec.Offload{} // its numbers change hands
		}
		switch n / 3 % 4 {
		case 0:
			apply(sas(a))
		case 1:
			apply(&fastpath.Change{IPsec: ipsec.Change{DeleteSA: []string{a.Name}}})
			apply(sas(a))
		case 2:
			other := testSA("other", sal.Outbound, true)
			other.SPI, other.Key = 0x7000, key(7000+n, 20)
			apply(sas(other))
		}
		time.Sleep(time.Millisecond)
	}
}

// wire is a driver of ports that are packet generators on one side, and on the
// other write every frame into a pipe before TxBurst returns.
type wire struct{ out *os.File }

func (w *wire) Name() string { return "wire" }

func (w *wire) Open(cfg sal.PortConfig, pool *sal.Pool) (sal.Port, error) {
	p := &wirePort{w: w, cfg: cfg, pool: pool}
	if cfg.Name == "lan" {
		for i := range 3 {
			x := outgoing(false, 80)
			x.Dst = fmt.Sprintf("10.2.%d.9", i)
			p.frames = append(p.frames, x.From(hostMAC, lanMAC))
		}
	}
	return p, nil
}

type wirePort struct {
	w      *wire
	cfg    sal.PortConfig
	pool   *sal.Pool
	up     bool
	frames [][]byte
	n      int
	buf    []byte
}

func (p *wirePort) Info() sal.PortInfo {
	return sal.PortInfo{Name: p.cfg.Name, Driver: "wire", Queues: 1, MAC: p.cfg.MAC}
}
func (p *wirePort) Queue(int) sal.PortQueue { return p }
func (p *wirePort) Link() bool              { return true }
func (p *wirePort) SetUp(up bool) error     { p.up = up; return nil }
func (p *wirePort) Stats() sal.PortStats    { return sal.PortStats{} }
func (p *wirePort) Close() error            { return nil }
func (p *wirePort) Wake() int               { return -1 }
func (p *wirePort) Held() int               { return 0 }

func (p *wirePort) RxBurst(c *sal.Cache, d []sal.Desc) int {
	if len(p.frames) == 0 {
		return 0
	}
	for i := range d {
		b, ok := c.Alloc()
		if !ok {
			return i
		}
		f := p.frames[p.n%len(p.frames)]
		p.n++
		d[i] = sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
		copy(p.pool.Bytes(d[i]), f)
	}
	return len(d)
}

func (p *wirePort) TxBurst(c *sal.Cache, d []sal.Desc) int {
	p.buf = p.buf[:0]
	for _, x := range d {
		f := p.pool.Bytes(x)
		if len(f) < 60 || f[12] != 8 || f[13] != 0 { // ARP
			continue
		}
		p.buf = binary.BigEndian.AppendUint16(p.buf, uint16(len(f)))
		p.buf = append(p.buf, f...)
	}
	if len(p.buf) > 0 {
		_, _ = p.w.out.Write(p.buf) // a reader that is gone is about to kill us
	}
	c.FreeDescs(d)
	return len(d)
}
