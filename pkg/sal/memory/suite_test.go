package memory_test

import (
	"errors"
	"testing"
	"time"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/memory"
	"vrouter/pkg/sal/saltest"
)

func TestSuite(t *testing.T) { saltest.RunPort(t, rig(1500)) }

func TestJumboSuite(t *testing.T) { saltest.RunJumbo(t, rig(sal.MaxMTU)) }

func rig(mtu int) func(t *testing.T) *saltest.PortRig {
	return func(t *testing.T) *saltest.PortRig {
		pool, err := sal.NewPoolLarge(8192, 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pool.Close() })
		d := memory.New(memory.Options{})
		p, err := d.Open(sal.PortConfig{Name: "a", Queues: 1, MTU: mtu}, pool)
		if err != nil {
			t.Fatal(err)
		}
		peer := d.Peer("a")
		return &saltest.PortRig{
			Port: p, Pool: pool, MTU: mtu,
			Send: func(f []byte) error {
				defer peer.Close() // what it hoards is not accounted for
				if peer.Inject(f) == 0 {
					return errors.New("not taken")
				}
				return nil
			},
			Recv: func() []byte {
				for range 20 {
					if f := peer.Collect(1); f != nil {
						peer.Close()
						return f[0]
					}
					time.Sleep(time.Millisecond)
				}
				peer.Close()
				return nil
			},
			Unplug: func() { peer.SetLink(false) },
			Plug:   func() { peer.SetLink(true) },
		}
	}
}
