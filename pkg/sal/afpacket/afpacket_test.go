package afpacket

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/nstest"
)

func pool(t testing.TB, n int) *sal.Pool {
	t.Helper()
	p, err := sal.NewPool(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// open opens a device of a namespace.
func open(t testing.TB, n *nstest.NS, d *Driver, pl *sal.Pool, cfg sal.PortConfig) sal.Port {
	t.Helper()
	var p sal.Port
	var err error
	n.Do(func() { p, err = d.Open(cfg, pl) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	return p
}

// wire forwards all frames between two ports until stop is called.
func wire(t testing.TB, pl *sal.Pool, a, b sal.Port) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c := pl.NewCache()
		defer c.Close()
		var d [64]sal.Desc
		pairs := [][2]sal.PortQueue{}
		for i := range a.Info().Queues {
			pairs = append(pairs, [2]sal.PortQueue{a.Queue(i), b.Queue(i)}, [2]sal.PortQueue{b.Queue(i), a.Queue(i)})
		}
		var fds []unix.PollFd
		for _, p := range pairs {
			fds = append(fds, unix.PollFd{Fd: int32(p[0].Wake()), Events: unix.POLLIN})
		}
		for {
			moved := 0
			for _, p := range pairs {
				n := p[0].RxBurst(c, d[:])
				moved += n
				for left := d[:n]; len(left) > 0; {
					left = left[p[1].TxBurst(c, left):]
				}
			}
			if moved == 0 {
				select {
				case <-quit:
					return
				default:
				}
				_, _ = unix.Poll(fds, 50)
			}
		}
	}()
	return func() { close(quit); <-done }
}

// TestTCP runs real TCP with the kernel's default offloads through two ports:
// checksums left to the device, super-frames of 64 KiB, in both families.
func TestTCP(t *testing.T) {
	nstest.Need(t, "iperf3")
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprintf("queues=%d", queues), func(t *testing.T) {
			left, mid, right := nstest.New(t), nstest.New(t), nstest.New(t)
			mid.Veth("l", left, "e")
			mid.Veth("r", right, "e")
			for ns, a := range map[*nstest.NS]string{left: "1", right: "2"} {
				ns.Run("ip", "addr", "add", "10.9.0."+a+"/24", "dev", "e")
				ns.Run("ip", "addr", "add", "fd09::"+a+"/64", "dev", "e", "nodad")
			}
			pl := pool(t, 8192)
			d := New(Options{})
			l := open(t, mid, d, pl, sal.PortConfig{Name: "l", Queues: queues, MTU: 1500})
			r := open(t, mid, d, pl, sal.PortConfig{Name: "r", Queues: queues, MTU: 1500})
			stop := wire(t, pl, l, r)
			defer stop()

			start := time.Now()
			left.Run("ping", "-c", "20", "-i", "0.01", "-W", "2", "10.9.0.2")
			t.Logf("20 pings in %v", time.Since(start))
			for _, dst := range []string{"10.9.0.2", "fd09::2"} {
				right.Start("iperf3", "-s", "-1", "-p", "5201")
				waitListen(t, right, 5201)
				out := left.Run("iperf3", "-c", dst, "-t", "2", "-J")
				var res struct {
					End struct {
						Received struct {
							Bps   float64 `json:"bits_per_second"`
							Bytes float64 `json:"bytes"`
						} `json:"sum_received"`
						Sent struct {
							Retransmits float64 `json:"retransmits"`
						} `json:"sum_sent"`
					} `json:"end"`
				}
				if err := json.Unmarshal([]byte(out), &res); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				t.Logf("%s: %.2f Gbit/s, %.0f retransmits", dst, res.End.Received.Bps/1e9, res.End.Sent.Retransmits)
				if res.End.Received.Bytes < 10<<20 {
					t.Errorf("%s: only %.0f bytes came through", dst, res.End.Received.Bytes)
				}
			}
			// The receivers threw nothing away for its checksum.
			for _, ns := range []*nstest.NS{left, right} {
				if s := counter(ns, "TcpInCsumErrors"); s != "0" {
					t.Errorf("TCP checksum errors: %s", s)
				}
			}
			t.Logf("left %+v right %+v", l.Stats(), r.Stats())
			for _, p := range []sal.Port{l, r} {
				if s := p.Stats(); s.RxErrors+s.RxUncut+s.TxErrors > 0 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

func counter(n *nstest.NS, name string) string {
	out, _ := n.Command("nstat", "-asz", name).Output()
	for _, l := range strings.Split(string(out), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[0] == name {
			return f[1]
		}
	}
	return "no " + name
}

func waitListen(t *testing.T, n *nstest.NS, port int) {
	t.Helper()
	for range 200 {
		if strings.Contains(n.Run("ss", "-ltnH"), fmt.Sprintf(":%d ", port)) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the server does not listen")
}
