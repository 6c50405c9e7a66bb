package event

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func read(t *testing.T, l *Log, after uint64) *Batch {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	b, err := l.Read(ctx, after)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadInOrder(t *testing.T) {
	now := int64(1)
	l := NewLog(func() int64 { return now })
	for i := range 3 {
		now++
		l.Add(Event{Kind: PortUp, Object: fmt.Sprint(i)})
	}
	b := read(t, l, 0)
	if len(b.Events) != 3 || b.Lost != 0 {
		t.Fatalf("%+v", b)
	}
	for i, e := range b.Events {
		if e.Number != uint64(i)+1 || e.Object != fmt.Sprint(i) || e.Time != int64(i)+2 {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	// Nobody has said that they were taken.
	if b = read(t, l, Resume); len(b.Events) != 3 {
		t.Errorf("resumed with %+v", b)
	}
	if b = read(t, l, 2); len(b.Events) != 1 || b.Events[0].Number != 3 {
		t.Errorf("after 2: %+v", b)
	}
	if b = read(t, l, Resume); len(b.Events) != 1 || b.Events[0].Number != 3 {
		t.Errorf("resumed after 2: %+v", b)
	}
	if s := l.Stats(); s != (Stats{Last: 3, Taken: 2}) {
		t.Errorf("%+v", s)
	}
}

func TestReadWaits(t *testing.T) {
	l := NewLog(func() int64 { return 0 })
	ctx, stop := context.WithCancel(t.Context())
	got := make(chan error, 2)
	go func() { _, err := l.Read(ctx, Resume); got <- err }()
	go func() {
		b, err := l.Read(context.Background(), 77) // of an earlier process
		if err == nil && (len(b.Events) != 1 || b.Events[0].Object != "x") {
			err = fmt.Errorf("%+v", b)
		}
		got <- err
	}()
	stop()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l.Add(Event{Kind: EngineLost, Object: "x"})
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestOldestGiveWay: a log without a reader keeps what it can and counts the
// rest, and a reader is told how many it has missed.
func TestOldestGiveWay(t *testing.T) {
	l := NewLog(func() int64 { return 0 })
	for range Keep + 100 {
		l.Add(Event{Kind: PortUp})
	}
	if s := l.Stats(); s.Last != Keep+100 || s.Lost != 100 {
		t.Errorf("%+v", s)
	}
	b := read(t, l, Resume)
	if b.Lost != 100 || b.Events[0].Number != 101 {
		t.Errorf("%d lost, then number %d", b.Lost, b.Events[0].Number)
	}
	for n := uint64(101); ; {
		for _, e := range b.Events {
			if e.Number != n {
				t.Fatalf("number %d, want %d", e.Number, n)
			}
			n++
		}
		if n > Keep+100 {
			break
		}
		if b = read(t, l, n-1); b.Lost != 0 {
			t.Fatalf("%d lost behind %d", b.Lost, n)
		}
	}
	// What was taken is not lost when it gives way.
	l.take(new(uint64(Keep + 100)))
	l.Add(Event{Kind: PortUp})
	if s := l.Stats(); s.Lost != 100 {
		t.Errorf("%+v", s)
	}
}

func TestLimited(t *testing.T) {
	now := int64(1e18)
	l := NewLog(func() int64 { return now })
	for range 1000 {
		l.Add(Event{Kind: BadSPI})
	}
	l.Add(Event{Kind: PortUp}) // has nothing to do with it
	now += int64(time.Second)
	for range 5 {
		l.Add(Event{Kind: BadSPI, SPI: 7})
	}
	b := read(t, l, 0)
	if len(b.Events) != 16 || b.Events[10].Kind != PortUp || b.Events[11].Alike != 990 || b.Events[12].Alike != 0 {
		t.Errorf("%d events, %+v", len(b.Events), b.Events)
	}
	if s := l.Stats(); s.Limited != 990 {
		t.Errorf("%+v", s)
	}
}

func TestLimitRate(t *testing.T) {
	x := Limit{Every: time.Second, Burst: 3}
	n := 0
	for now := int64(5e9); now < 105e9; now += 1e8 {
		if x.Allow(now) {
			n++
		}
	}
	if n != 102 {
		t.Errorf("%d in 100 s, want 102", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	l := NewLog(func() int64 { return 0 })
	const writers, each = 4, 2000
	var w sync.WaitGroup
	for range writers {
		w.Go(func() {
			for range each {
				l.Add(Event{Kind: PortUp})
			}
		})
	}
	var seen, lost, after uint64
	for seen+lost < writers*each {
		b := read(t, l, after)
		lost += b.Lost
		for _, e := range b.Events {
			if e.Number != seen+lost+1 {
				t.Fatalf("number %d after %d seen and %d lost", e.Number, seen, lost)
			}
			seen++
			after = e.Number
		}
	}
	w.Wait()
}

func TestKindNames(t *testing.T) {
	for k := Kind(1); k < kinds; k++ {
		if k.String() == "unknown" {
			t.Errorf("kind %d has no name", k)
		}
	}
	if Kind(0).String() != "unknown" || kinds.String() != "unknown" {
		t.Error("a name for nothing")
	}
}

// TestTooMany: who asks first makes no event that Add would swallow, and it is counted as
// if he had.
func TestTooMany(t *testing.T) {
	now := int64(1e18)
	l := NewLog(func() int64 { return now })
	made := 0
	for range 100 {
		if !l.TooMany(SAMigrated) {
			l.Add(Event{Kind: SAMigrated})
			made++
		}
	}
	if s := l.Stats(); made != 64 || s.Last != 64 || s.Limited != 36 {
		t.Errorf("%d were made: %+v", made, s)
	}
	now += 1e9
	if l.TooMany(SAMigrated) || l.TooMany(PortUp) {
		t.Error("there is room")
	}
	l.Add(Event{Kind: SAMigrated})
	if b := read(t, l, 64); len(b.Events) != 1 || b.Events[0].Alike != 36 {
		t.Errorf("%+v", b)
	}
}
