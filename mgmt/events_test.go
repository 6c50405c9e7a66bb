package mgmt

import (
	"net/netip"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/notify"
	"vrouter/mgmt/yang"
)

// Every notification of the data plane's modules is made by some event, with all
// that the schema promises to be in it, and every event makes one.
func TestEveryNotificationHasAnEvent(t *testing.T) {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := features(s, enginetest.New(), nil, rules(t, s))
	if err != nil {
		t.Fatal(err)
	}
	hub, err := notify.New(notify.Options{Schema: s})
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	var see func(n data.Node)
	see = func(n data.Node) {
		written[n.Schema().Path()] = true
		if c, ok := n.(*data.Container); ok {
			for _, k := range c.Kids() {
				see(k)
			}
		}
	}
	for k := event.Kind(1); k.String() != "unknown"; k++ {
		e := fastpath.Event{Number: 1, Time: 1, Kind: k, Object: "x", Text: "y", SPI: 4711, SA: &event.SA{Age: time.Hour, Packets: 1,
			Peer: netip.MustParseAddrPort("192.0.2.2:4500"), Before: netip.MustParseAddrPort("192.0.2.3:4500")}}
		makers := 0
		for _, b := range sources(bindings) {
			name, content := b.Event(&e)
			if name == "" {
				continue
			}
			makers++
			n, err := hub.Compose(name, func(w *oper.Writer) { content(w) })
			if err != nil || n == nil {
				t.Errorf("%v: %s: %v", k, name, err)
				continue
			}
			see(n.Data)
		}
		if makers != 1 {
			t.Errorf("%v is told by %d bindings", k, makers)
		}
	}
	for _, module := range []string{"ietf-i2nsf-ikeless", "vrouter-port", "vrouter-sal"} {
		found := 0
		for _, n := range s.Root.Ops {
			if n.Kind != yang.Notification || n.Module.Name != module {
				continue
			}
			n.Walk(func(n *yang.Node) bool {
				found++
				if !written[n.Path()] {
					t.Errorf("nobody writes %s", n.Path())
				}
				return true
			})
		}
		if found == 0 {
			t.Errorf("%s has no notifications", module)
		}
	}
}
