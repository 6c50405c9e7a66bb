package txn_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/txn"
)

var confirmed = txn.CommitOptions{Confirmed: true}

// steps gives what the events told of confirmed commits.
func (b *bench) steps() string {
	var s []string
	for _, e := range b.events {
		if e.Step != txn.None {
			s = append(s, e.Step.String())
		}
	}
	return strings.Join(s, " ")
}

// pending checks running and whether a confirmed commit is pending, that the
// data plane has the same, and what the disk would come back to.
func (b *bench) pending(n int, is bool, base int) {
	b.t.Helper()
	if got := b.is(running); got != n || (b.Info().Pending != nil) != is {
		b.t.Fatalf("running is %d, pending %+v; want %d, %t", got, b.Info().Pending, n, is)
	}
	if b.plane.live != nil && b.plane.live != b.Tree(running) {
		b.t.Fatal("the data plane has another configuration")
	}
	o := &bench{t: b.t, disk: b.disk.Clone(), clock: &clock{now: b.clock.Now()}, plane: &plane{t: b.t}}
	o.start()
	defer o.stop()
	if got := o.is(running); got != base {
		b.t.Fatalf("a restart would come back with %d, want %d", got, base)
	}
}

// TestConfirmed: RFC 6241 section 8.4.
func TestConfirmed(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *bench)
		want string // steps
	}{
		{"confirmed in time", func(b *bench) {
			b.clock.pass(599 * time.Second)
			b.pending(2, true, 1)
			b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
			b.pending(2, false, 2)
			b.clock.pass(time.Hour)
			b.pending(2, false, 2)
		}, "start complete"},
		{"not confirmed in 600 s", func(b *bench) {
			b.clock.pass(601 * time.Second)
			b.pending(1, false, 1)
			b.must(b.Commit(ctx, ann, txn.CommitOptions{})) // too late: candidate is running again
			b.pending(1, false, 1)
		}, "start timeout"},
		{"the confirming commit changes more", func(b *bench) {
			b.must(b.commit(ann, 3, txn.CommitOptions{}))
			b.pending(3, false, 3)
			b.clock.pass(time.Hour)
			b.pending(3, false, 3)
		}, "start complete"},
		{"extended", func(b *bench) {
			b.clock.pass(500 * time.Second)
			b.must(b.commit(ann, 3, txn.CommitOptions{Confirmed: true, Timeout: 1000 * time.Second}))
			b.clock.pass(999 * time.Second)
			b.pending(3, true, 1)
			b.must(b.Commit(ctx, ann, txn.CommitOptions{Confirmed: true, Timeout: 10 * time.Second})) // or shortened
			b.clock.pass(9 * time.Second)
			b.pending(3, true, 1)
			b.clock.pass(2 * time.Second)
			b.pending(1, false, 1) // to before the first
		}, "start extend extend timeout"},
		{"extended, then confirmed", func(b *bench) {
			b.must(b.commit(ann, 3, confirmed))
			b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
			b.pending(3, false, 3)
		}, "start extend complete"},
		{"cancelled", func(b *bench) {
			b.must(b.CancelCommit(ctx, ann, ""))
			b.pending(1, false, 1)
			b.clock.pass(time.Hour)
			b.fails(b.CancelCommit(ctx, ann, ""), "operation-failed")
		}, "start cancel"},
		{"the session ends", func(b *bench) {
			b.SessionEnded(bob)
			b.pending(2, true, 1)
			b.SessionEnded(ann)
			b.pending(1, false, 1)
			b.clock.pass(time.Hour)
			b.pending(1, false, 1)
		}, "start cancel"},
		{"the process ends", func(b *bench) {
			b.restart()
			if b.is(running) != 1 || b.History()[0].Kind != datastore.Revert {
				b.t.Fatal(b.is(running))
			}
			b.plane.live = nil
			b.clock.pass(time.Hour)
			b.pending(1, false, 1)
		}, ""},
		{"others are kept out", func(b *bench) {
			b.must(b.Edit(ctx, bob, candidate, txn.EditOptions{}, count(9)))
			same := b.same()
			b.fails(b.Commit(ctx, bob, txn.CommitOptions{}), "in-use")
			b.fails(b.Commit(ctx, bob, confirmed), "in-use")
			b.fails(b.CancelCommit(ctx, bob, ""), "in-use")
			b.fails(b.CancelCommit(ctx, bob, "x"), "invalid-value")
			b.fails(b.Commit(ctx, ann, txn.CommitOptions{PersistID: "x"}), "invalid-value")
			b.fails(b.Commit(ctx, ann, txn.CommitOptions{Persist: "x"}), "invalid-value")
			b.fails(b.Edit(ctx, bob, running, txn.EditOptions{}, count(9)), "in-use")
			b.fails(b.Copy(ctx, bob, txn.Source{Datastore: candidate}, running), "in-use")
			if e := b.fails(b.Lock(ctx, bob, running), "lock-denied"); info(e, "session-id") != "1" {
				b.t.Fatal(e.Info)
			}
			b.must(b.Validate(ctx, bob, txn.Source{Datastore: candidate}))
			same()
			b.must(b.Lock(ctx, ann, running)) // its own
			b.must(b.Unlock(ctx, ann, running))
			b.clock.pass(time.Hour)
			b.pending(1, false, 1)
			b.must(b.Commit(ctx, bob, txn.CommitOptions{}))
			b.pending(9, false, 9)
		}, "start timeout"},
		{"the owner edits running", func(b *bench) {
			b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, count(5)))
			b.pending(5, true, 1)
			b.clock.pass(time.Hour)
			b.pending(1, false, 1)
		}, "start timeout"},
		{"running is locked", func(b *bench) {
			b.must(b.Lock(ctx, ann, running))
			b.clock.pass(time.Hour) // the server itself is not kept out
			b.pending(1, false, 1)
		}, "start timeout"},
		{"a refused extension", func(b *bench) {
			b.clock.pass(100 * time.Second)
			b.plane.refuse = &data.Error{Tag: "operation-failed"}
			b.fails(b.commit(ann, 3, confirmed), "operation-failed")
			b.plane.refuse = nil
			b.pending(2, true, 1)
			b.clock.pass(501 * time.Second) // the first timer goes on
			b.pending(1, false, 1)
		}, "start timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.must(b.commit(ann, 1, txn.CommitOptions{}))
			b.must(b.commit(ann, 2, confirmed))
			b.pending(2, true, 1)
			if p := b.Info().Pending; p.By != ann || p.Persist || p.Base != 1 || !p.Deadline.Equal(b.clock.Now().Add(600*time.Second)) {
				t.Fatalf("%+v", p)
			}
			c.do(b)
			if got := b.steps(); got != c.want {
				t.Fatalf("events %q, want %q", got, c.want)
			}
		})
	}
}

// TestPersist: a confirmed commit with a token (RFC 6241 section 8.4.5).
func TestPersist(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *bench)
		want string
	}{
		{"another session confirms", func(b *bench) {
			b.SessionEnded(ann)
			b.pending(2, true, 1)
			b.fails(b.Commit(ctx, bob, txn.CommitOptions{}), "in-use")
			b.fails(b.Commit(ctx, bob, txn.CommitOptions{PersistID: "wrong"}), "invalid-value")
			b.must(b.Commit(ctx, bob, txn.CommitOptions{PersistID: "token"}))
			b.pending(2, false, 2)
			b.fails(b.Commit(ctx, bob, txn.CommitOptions{PersistID: "token"}), "invalid-value")
		}, "start complete"},
		{"the same session needs the token too", func(b *bench) {
			b.fails(b.Commit(ctx, ann, txn.CommitOptions{}), "in-use")
			b.fails(b.CancelCommit(ctx, ann, ""), "invalid-value")
			b.must(b.Commit(ctx, ann, txn.CommitOptions{PersistID: "token"}))
			b.pending(2, false, 2)
		}, "start complete"},
		{"another session extends and takes over", func(b *bench) {
			b.must(b.commit(bob, 3, txn.CommitOptions{Confirmed: true, PersistID: "token"}))
			b.SessionEnded(ann)
			b.SessionEnded(bob) // the token stays
			b.pending(3, true, 1)
			b.fails(b.Commit(ctx, bob, txn.CommitOptions{Confirmed: true, PersistID: "other"}), "invalid-value")
			b.must(b.Commit(ctx, bob, txn.CommitOptions{Confirmed: true, PersistID: "token", Persist: "other"}))
			b.fails(b.CancelCommit(ctx, bob, "token"), "invalid-value")
			b.must(b.CancelCommit(ctx, bob, "other"))
			b.pending(1, false, 1)
		}, "start extend extend cancel"},
		{"time passes", func(b *bench) {
			b.SessionEnded(ann)
			b.clock.pass(time.Hour)
			b.pending(1, false, 1)
			b.fails(b.Commit(ctx, bob, txn.CommitOptions{PersistID: "token"}), "invalid-value")
		}, "start timeout"},
		{"running is not for others", func(b *bench) {
			b.fails(b.Edit(ctx, bob, running, txn.EditOptions{}, count(9)), "in-use")
			b.fails(b.Lock(ctx, bob, running), "lock-denied")
		}, "start"},
		{"the process ends", func(b *bench) {
			b.restart()
			b.plane.live = nil
			b.pending(1, false, 1)
			b.fails(b.Commit(ctx, ann, txn.CommitOptions{PersistID: "token"}), "invalid-value")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.must(b.commit(ann, 1, txn.CommitOptions{}))
			b.must(b.commit(ann, 2, txn.CommitOptions{Confirmed: true, Persist: "token"}))
			b.pending(2, true, 1)
			if !b.Info().Pending.Persist || strings.Contains(fmt.Sprintf("%+v", b.Info()), "token") {
				t.Fatalf("%+v", b.Info())
			}
			c.do(b)
			if got := b.steps(); got != c.want {
				t.Fatalf("events %q, want %q", got, c.want)
			}
		})
	}
}

// TestConfirmedWithoutChange: nothing to revert, but all the rules.
func TestConfirmedWithoutChange(t *testing.T) {
	b := newBench(t)
	b.must(b.commit(ann, 1, txn.CommitOptions{}))
	b.must(b.Commit(ctx, ann, confirmed))
	b.fails(b.Commit(ctx, bob, txn.CommitOptions{}), "in-use")
	b.pending(1, true, 1)
	b.must(b.commit(ann, 2, confirmed))
	b.pending(2, true, 1)
	b.clock.pass(time.Hour)
	b.pending(1, false, 1)
	if b.steps() != "start extend timeout" {
		t.Fatal(b.steps())
	}
}

// TestRevertRefused: it is tried again until the data plane takes it, and
// nobody is locked out meanwhile.
func TestRevertRefused(t *testing.T) {
	refusal := &data.Error{Tag: "operation-failed", Path: "/vr-store:box", Msg: "the port is gone"}
	begin := func(t *testing.T) *bench {
		b := newBench(t)
		b.must(b.commit(ann, 1, txn.CommitOptions{}))
		b.must(b.commit(ann, 2, confirmed))
		b.plane.refuse = refusal
		b.clock.pass(601 * time.Second)
		b.pending(2, true, 1)
		if p := b.Info().Pending; !errors.Is(p.Err, refusal) {
			t.Fatalf("%+v", p)
		}
		return b
	}
	t.Run("again", func(t *testing.T) {
		b := begin(t)
		n := len(b.plane.log)
		b.clock.pass(10 * time.Minute)
		if tries := len(b.plane.log) - n; tries < 20 || tries > 26 {
			t.Fatalf("%d tries in ten minutes", tries)
		}
		b.plane.refuse = nil
		b.clock.pass(31 * time.Second)
		b.pending(1, false, 1)
		b.clock.pass(time.Hour)
		if last := b.events[len(b.events)-1]; last.Step != txn.Timeout || last.New != b.Tree(running) {
			t.Fatalf("%+v", last)
		}
		if !slices.ContainsFunc(b.events, func(e txn.Event) bool { return e.Step == txn.Failed && errors.Is(e.Err, refusal) }) {
			t.Fatal("nobody was told")
		}
	})
	t.Run("a late confirmation", func(t *testing.T) {
		b := begin(t)
		b.fails(b.Commit(ctx, ann, txn.CommitOptions{}), "operation-failed") // does not confirm
		b.pending(2, true, 1)
		b.plane.refuse = nil
		b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
		b.pending(1, false, 1)
	})
	t.Run("a commit instead", func(t *testing.T) {
		b := begin(t)
		b.must(b.Edit(ctx, bob, candidate, txn.EditOptions{}, count(3)))
		b.plane.on = func(string) { b.plane.refuse = nil } // only the revert is refused
		b.must(b.Commit(ctx, bob, txn.CommitOptions{}))
		b.pending(3, false, 3)
		b.clock.pass(time.Hour)
		b.pending(3, false, 3)
	})
	t.Run("the process ends", func(t *testing.T) {
		b := begin(t)
		b.restart()
		b.plane.live = nil
		b.pending(1, false, 1)
	})
	t.Run("cancel is refused", func(t *testing.T) {
		b := newBench(t)
		b.must(b.commit(ann, 1, txn.CommitOptions{}))
		b.must(b.commit(ann, 2, confirmed))
		b.plane.refuse = refusal
		same := b.same()
		b.fails(b.CancelCommit(ctx, ann, ""), "operation-failed")
		same()
		b.plane.refuse = nil
		b.must(b.Commit(ctx, ann, txn.CommitOptions{})) // the time has not come
		b.pending(2, false, 2)
	})
	t.Run("the session ends", func(t *testing.T) {
		b := newBench(t)
		b.must(b.commit(ann, 1, txn.CommitOptions{}))
		b.must(b.commit(ann, 2, confirmed))
		b.must(b.Lock(ctx, ann, running))
		b.plane.refuse = refusal
		b.SessionEnded(ann)
		b.pending(2, true, 1)
		if len(b.Info().Locks) > 0 {
			t.Fatal("the locks of a session that is gone")
		}
		b.plane.refuse = nil
		b.clock.pass(2 * time.Second)
		b.pending(1, false, 1)
	})
}
