package mem

import (
	"slices"
	"testing"
)

func TestHold(t *testing.T) {
	g := NewGrace()
	w := g.Register()
	w.Online()
	var freed []string
	retire := func(s string) { g.Retire(func() { freed = append(freed, s) }) }
	pass := func() {
		for range 3 {
			g.Poll()
			w.Quiesce()
		}
		g.Poll()
	}
	retire("early")
	g.Hold()
	retire("a")
	pass()
	retire("b")
	pass()
	if !slices.Equal(freed, []string{"early"}) {
		t.Fatalf("while held: %v", freed)
	}
	g.Release()
	g.Poll() // the worker has not passed since Release
	if len(freed) != 1 {
		t.Fatalf("right after Release: %v", freed)
	}
	pass()
	if !slices.Equal(freed, []string{"early", "a", "b"}) {
		t.Fatalf("in the end: %v", freed)
	}
	retire("late")
	pass()
	if len(freed) != 4 || g.Pending() != 0 {
		t.Fatalf("after a hold: %v", freed)
	}
}
