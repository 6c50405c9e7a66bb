package txn_test

import (
	"testing"

	"vrouter/mgmt/datastore"
	"vrouter/mgmt/txn"
)

// TestLocks: what others may not do while a session holds a lock (RFC 6241
// sections 7.5, 7.6 and 8.3).
func TestLocks(t *testing.T) {
	all := []txn.Datastore{running, candidate, startup}
	for _, ds := range all {
		b := newBench(t)
		b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, count(1)))
		b.fails(b.Unlock(ctx, ann, ds), "operation-failed")
		b.must(b.Lock(ctx, ann, ds))
		for _, who := range []txn.Session{ann, bob, {User: "cli"}} {
			if e := b.fails(b.Lock(ctx, who, ds), "lock-denied"); info(e, "session-id") != "1" || e.Type != "protocol" {
				t.Fatal(e, e.Info)
			}
		}
		b.fails(b.Unlock(ctx, bob, ds), "operation-failed")
		for _, other := range all {
			if other != ds {
				b.must(b.Lock(ctx, bob, other))
				b.must(b.Unlock(ctx, bob, other))
			}
		}
		if l := b.Info().Locks; len(l) != 1 || l[0].Datastore != ds || l[0].By != ann || !l[0].Since.Equal(b.clock.Now()) {
			t.Fatal(l)
		}

		same := b.same()
		writes := map[txn.Datastore][]func(by txn.Session) error{
			running: {
				func(by txn.Session) error { return b.Edit(ctx, by, running, txn.EditOptions{}, count(9)) },
				func(by txn.Session) error { return b.Copy(ctx, by, txn.Source{Datastore: candidate}, running) },
				func(by txn.Session) error { return b.Commit(ctx, by, txn.CommitOptions{}) },
			},
			candidate: {
				func(by txn.Session) error { return b.Edit(ctx, by, candidate, txn.EditOptions{}, count(9)) },
				func(by txn.Session) error { return b.Copy(ctx, by, txn.Source{Datastore: running}, candidate) },
				func(by txn.Session) error { return b.Discard(ctx, by) },
				func(by txn.Session) error { return b.Commit(ctx, by, txn.CommitOptions{}) },
			},
			startup: {
				func(by txn.Session) error { return b.Copy(ctx, by, txn.Source{Datastore: running}, startup) },
				func(by txn.Session) error { return b.Delete(ctx, by, startup) },
			},
		}
		for _, w := range writes[ds] {
			b.fails(w(bob), "in-use")
		}
		same()
		for _, w := range writes[ds] {
			b.must(w(ann))
		}
		b.must(b.Validate(ctx, bob, txn.Source{Datastore: ds})) // reads
		b.must(b.Unlock(ctx, ann, ds))
		b.fails(b.Unlock(ctx, ann, ds), "operation-failed")
		for _, w := range writes[ds] {
			b.must(w(bob))
		}
	}
}

// TestLockOutsideNETCONF: the holder is then session 0.
func TestLockOutsideNETCONF(t *testing.T) {
	b := newBench(t)
	cli := txn.Session{User: "console"}
	b.must(b.Lock(ctx, cli, running))
	if e := b.fails(b.Lock(ctx, ann, running), "lock-denied"); info(e, "session-id") != "0" {
		t.Fatal(e.Info)
	}
	b.must(b.Unlock(ctx, cli, running))
}

// TestLockOfModifiedCandidate: RFC 6241 sections 7.5 and 8.3.5.2.
func TestLockOfModifiedCandidate(t *testing.T) {
	b := newBench(t)
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1)))
	for _, by := range []txn.Session{ann, bob} {
		if e := b.fails(b.Lock(ctx, by, candidate), "lock-denied"); info(e, "session-id") != "0" {
			t.Fatal(e.Info)
		}
	}
	b.must(b.Discard(ctx, ann))
	b.must(b.Lock(ctx, ann, candidate))
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1)))
	if e := b.fails(b.Lock(ctx, bob, candidate), "lock-denied"); info(e, "session-id") != "1" {
		t.Fatal(e.Info)
	}
	b.must(b.Unlock(ctx, ann, candidate)) // discards
	if b.Info().Modified || b.is(candidate) != 0 {
		t.Fatal("not discarded")
	}
	b.must(b.Lock(ctx, bob, candidate))
}

// TestSessionEnded: locks go, candidate is discarded if its lock was held.
func TestSessionEnded(t *testing.T) {
	b := newBench(t)
	for _, ds := range []txn.Datastore{running, candidate, startup} {
		b.must(b.Lock(ctx, ann, ds))
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1)))
	b.SessionEnded(bob)
	if len(b.Info().Locks) != 3 || !b.Info().Modified {
		t.Fatal("another session's end did something")
	}
	b.SessionEnded(ann)
	if len(b.Info().Locks) != 0 || b.Info().Modified {
		t.Fatalf("%+v", b.Info())
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(1))) // without the lock it is everybody's
	b.SessionEnded(ann)
	if !b.Info().Modified {
		t.Fatal("a shared candidate was discarded")
	}
}

func TestCopyAndDelete(t *testing.T) {
	b := newBench(t)
	b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, set(`<counter>1</counter><item><name>a</name></item>`)))
	for _, ds := range []txn.Datastore{running, candidate, startup} {
		b.fails(b.Copy(ctx, ann, txn.Source{Datastore: ds}, ds), "invalid-value")
	}
	b.fails(b.Edit(ctx, ann, startup, txn.EditOptions{}, count(1)), "operation-not-supported")
	b.fails(b.Delete(ctx, ann, running), "operation-not-supported")
	b.fails(b.Delete(ctx, ann, candidate), "operation-not-supported")

	b.events = nil
	b.must(b.Copy(ctx, ann, txn.Source{Datastore: running}, startup))
	if len(b.events) != 1 || b.events[0].Datastore != startup || b.events[0].By != ann || b.is(startup) != 1 {
		t.Fatalf("%+v", b.events)
	}
	b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, set(`<counter>2</counter><item nc:operation="delete"><name>a</name></item>`)))
	b.must(b.Copy(ctx, ann, txn.Source{Datastore: startup}, candidate))
	if b.is(candidate) != 1 || !b.Info().Modified || b.is(running) != 2 {
		t.Fatal(b.is(candidate))
	}
	b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
	if text(t, b.Tree(running)) != text(t, b.Tree(startup)) {
		t.Fatal(text(t, b.Tree(running)))
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(7)))
	b.must(b.Copy(ctx, ann, txn.Source{Datastore: running}, candidate)) // as discard-changes
	if b.Info().Modified {
		t.Fatal("candidate is running's again")
	}
	b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(8)))
	b.must(b.Copy(ctx, ann, txn.Source{Datastore: candidate}, running)) // as commit
	if b.is(running) != 8 || b.Info().Modified || b.Tree(candidate) != b.Tree(running) {
		t.Fatal("candidate was copied")
	}
	b.must(b.Copy(ctx, ann, txn.Source{Tree: b.Tree(startup)}, running))
	b.restart()
	if b.is(startup) != 1 {
		t.Fatal("startup was lost")
	}
	b.must(b.Delete(ctx, ann, startup))
	if text(t, b.Tree(startup)) != "" {
		t.Fatal("not deleted")
	}
	b.must(b.Delete(ctx, ann, startup))
	b.restart()
	if text(t, b.Tree(startup)) != "" {
		t.Fatal("not deleted")
	}
}

// TestRollback: the past can be had back.
func TestRollback(t *testing.T) {
	b := newBench(t)
	for n := 1; n <= 25; n++ {
		b.must(b.commit(ann, n, txn.CommitOptions{}))
	}
	b.restart()
	h := b.History()
	if len(h) != 20 || h[0].Seq != 25 || h[3].Seq != 22 || h[3].By != ann || h[3].Kind != datastore.Commit {
		t.Fatalf("%d %+v", len(h), h[3])
	}
	b.must(b.Copy(ctx, bob, h[3].Source(), candidate))
	b.must(b.Commit(ctx, bob, txn.CommitOptions{}))
	if b.is(running) != 22 || b.plane.live != b.Tree(running) {
		t.Fatal(b.is(running))
	}
	if h := b.History(); h[0].Seq != 26 || h[0].By != bob || h[1].Seq != 25 {
		t.Fatalf("%+v", h[0])
	}
}
