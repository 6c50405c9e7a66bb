package fastpath_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/iface"
	"vrouter/pkg/pkt"
)

// happened is what has happened after an event, in short.
func happened(b *testbed.Bed, after *uint64) (l []string) {
	for {
		ctx, stop := context.WithTimeout(context.Background(), time.Millisecond)
		x, err := b.E.Events(ctx, *after)
		stop()
		if err != nil {
			return l
		}
		for _, e := range x.Events {
			*after = e.Number
			l = append(l, fmt.Sprint(e.Kind, " ", e.Object))
		}
	}
}

// TestPortsTell: links that go and come, and an interface that is shut.
func TestPortsTell(t *testing.T) {
	b := twoPorts(t, nil)
	after := uint64(0)
	happened(b, &after)
	for _, c := range []struct {
		what string
		do   func()
		want []string
	}{
		{"nothing", func() {}, nil},
		{"unplugged", func() { b.Mem.Peer("b").SetLink(false) }, []string{"port-down b"}},
		{"plugged in", func() { b.Mem.Peer("b").SetLink(true) }, []string{"port-up b"}},
		{"shut", func() {
			ib := testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
			ib.Enabled = false
			b.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ib}}})
		}, nil}, // who shut it knows
	} {
		c.do()
		b.Advance(time.Second)
		if got := happened(b, &after); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestUnknownSPIsTell: ESP that no SA is for is told of, a flood of it ten times
// a second, with a count of the rest.
func TestUnknownSPIsTell(t *testing.T) {
	b := twoPorts(t, nil)
	esp := func(spi uint32) []byte {
		body := make([]byte, 60)
		body[0], body[1], body[2], body[3] = byte(spi>>24), byte(spi>>16), byte(spi>>8), byte(spi)
		return testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: pkt.ProtoESP, Payload: body}.From(21, 1)
	}
	b.Send("a", esp(4711))
	b.Run()
	x, err := b.E.Events(t.Context(), 0)
	if err != nil || len(x.Events) != 1 || x.Events[0].Kind != event.BadSPI || x.Events[0].SPI != 4711 || x.Events[0].Iface != "a" {
		t.Fatalf("%v, %+v", err, x)
	}
	after := x.Events[0].Number
	for i := range uint32(3000) { // in 3 s
		b.Send("a", esp(1<<20+i))
		b.Advance(time.Millisecond)
	}
	if n := len(happened(b, &after)); n < 28 || n > 42 {
		t.Errorf("%d events in 3 s", n)
	}
	if s := b.State(&fastpath.Query{Process: true}).Process.Events; s.Limited == 0 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
}
