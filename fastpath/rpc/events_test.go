package rpc

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
)

// TestEvents: what happens comes through whole and in order, a reader waits for
// it without keeping others waiting, and one that comes later goes on where the
// one before it stopped.
func TestEvents(t *testing.T) {
	e := newEcho()
	path, _ := serve(t, e)
	c := dial(t, path)
	sa := fastpath.Event{Kind: event.SASoftExpired, Object: "sa 1", Text: "packets: 10 of 10", SA: &event.SA{SPI: 4096, Inbound: true,
		Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("2001:db8::1"), Cause: "packets",
		Age: time.Hour, Idle: time.Second, Packets: 10, Bytes: 1 << 40, Seq: 1 << 33}}
	got := make(chan *fastpath.Events)
	go func() {
		b, err := c.Events(t.Context(), fastpath.EventsResume)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	if _, err := c.Prepare(t.Context(), &fastpath.Change{}); err != nil { // while it waits
		t.Fatal(err)
	}
	e.log.Add(sa)
	sa.Number, sa.Time = 1, 1e18
	if b := <-got; b == nil || len(b.Events) != 1 || !reflect.DeepEqual(b.Events[0], sa) {
		t.Fatalf("%+v, want %+v", b, sa)
	}
	// Given up by its caller, at the other side too.
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := c.Events(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if s := e.log.Stats(); s.Taken != 1 {
		t.Errorf("%+v", s)
	}
	for range event.Keep + 5 {
		e.log.Add(fastpath.Event{Kind: event.PortDown, Object: "wan"})
	}
	c.Close()
	if _, err := c.Events(t.Context(), 1); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	b, err := dial(t, path).Events(t.Context(), fastpath.EventsResume)
	if err != nil || b.Lost != 5 || b.Events[0].Number != 7 {
		t.Errorf("%v, %+v", err, b)
	}
}
