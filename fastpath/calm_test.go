package fastpath

import (
	"testing"
	"time"

	"vrouter/fastpath/pipeline"
)

// holder is an engine that has taken something off a ring and keeps a turn
// waiting with it.
type holder struct{ entered, leave chan struct{} }

func (h *holder) Poll(*pipeline.Ctx) int {
	if h.entered == nil {
		return 0
	}
	close(h.entered)
	h.entered = nil
	<-h.leave
	return 1
}

func (*holder) Busy(*pipeline.Ctx) bool  { return false }
func (*holder) Rings(*pipeline.Ctx) bool { return true }

// TestCalmWithinTurn: a worker that has something in hand is not taken for one
// that has nothing inside, though the turn before met nothing.
func TestCalmWithinTurn(t *testing.T) {
	e, err := New(Options{Manual: true, Buffers: 8192, Flows4: 1 << 10, Flows6: 1 << 10, Routes: 1 << 10, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	h := &holder{leave: make(chan struct{})}
	e.order.Pollers = append(e.order.Pollers, h)
	e.publishCrew(&pipeline.Crew{N: 2, Paused: true, Shared: true})
	for range 2 {
		for i := range 2 {
			e.Turn(i)
		}
	}
	if !e.calm(-1) {
		t.Fatal("workers that have met nothing are not calm")
	}
	entered, ended := make(chan struct{}), make(chan struct{})
	h.entered = entered
	go func() {
		e.Turn(1)
		close(ended)
	}()
	<-entered
	time.AfterFunc(20*time.Millisecond, func() { close(h.leave) })
	if e.calm(-1) {
		t.Error("calm within a turn that has met something")
	}
	<-ended
	e.Turn(1)
	if !e.calm(-1) {
		t.Error("not calm when the turn has ended")
	}
}
