package saltest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"vrouter/pkg/sal"
)

// testInfo: an engine describes itself, and its capabilities make sense.
func testInfo(b *bench) {
	i := b.d.Info()
	if i.Name == "" || i.Driver == "" || i.Version != sal.Version || i.Kind > sal.Inline || !i.Ready || i.Users != 0 {
		b.Errorf("%+v", i)
	}
	c := b.caps
	if len(c.Modes) == 0 || len(c.Algorithms) == 0 || c.Queues < 1 || c.QueueDepth < 1 || c.MaxSAs < 0 || c.WindowMax < 0 {
		b.Errorf("%+v", c)
	}
	if !c.Has(sal.ModeProtocol) && !c.Has(sal.ModeFull) && c.WindowMax != 0 {
		b.Error("a replay window in an engine that keeps none")
	}
	for _, a := range c.Algorithms {
		if len(a.KeyBits) == 0 || !slices.IsSorted(a.KeyBits) || a.ICVLen < 8 && len(c.Integrity) == 0 || a.Align < 1 {
			b.Errorf("%+v", a)
		}
	}
}

// testOpen: alone or together.
func testOpen(b *bench) {
	open := func(exclusive bool) sal.Session {
		b.Helper()
		s, err := b.d.Open("app", exclusive)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	refuse := func(exclusive bool) {
		b.Helper()
		if _, err := b.d.Open("other", exclusive); !errors.Is(err, sal.ErrBusy) {
			b.Errorf("exclusive %v: %v, want ErrBusy", exclusive, err)
		}
	}
	alone := open(true)
	refuse(false)
	refuse(true)
	if i := b.d.Info(); i.Users != 1 || i.Shared {
		b.Errorf("opened exclusively: %+v", i)
	}
	alone.Close()
	x, y := open(false), open(false)
	refuse(true)
	if i := b.d.Info(); i.Users != 2 || !i.Shared {
		b.Errorf("opened twice: %+v", i)
	}
	x.Close()
	x.Close()
	refuse(true)
	y.Close()
	open(true).Close()
	if i := b.d.Info(); i.Users != 0 {
		b.Errorf("closed: %+v", i)
	}
}

// testRefusals: what is outside the capabilities is refused, and leaves nothing
// behind.
func testRefusals(b *bench) {
	bits := b.algorithm().KeyBits
	b.start(4)
	good := gcm(1, bits[0])
	for name, x := range map[string]struct {
		change func(*sal.SAConfig)
		want   error
	}{
		"algorithm":         {func(c *sal.SAConfig) { c.Algorithm = 12345 }, sal.ErrNotSupported},
		"algorithm 0":       {func(c *sal.SAConfig) { c.Algorithm = 0 }, sal.ErrNotSupported},
		"no key":            {func(c *sal.SAConfig) { c.Key = nil }, sal.ErrInvalid},
		"key without salt":  {func(c *sal.SAConfig) { c.Key = c.Key[:len(c.Key)-4] }, sal.ErrInvalid},
		"key a byte longer": {func(c *sal.SAConfig) { c.Key = append(slices.Clone(c.Key), 0) }, sal.ErrInvalid},
		"SPI 0":             {func(c *sal.SAConfig) { c.SPI = 0 }, sal.ErrInvalid},
		"direction":         {func(c *sal.SAConfig) { c.Direction = 7 }, sal.ErrInvalid},
		"mode":              {func(c *sal.SAConfig) { c.Mode = 99 }, sal.ErrNotSupported},
	} {
		c := good
		x.change(&c)
		if h, err := b.s.AddSA(0, &c); !errors.Is(err, x.want) || h != 0 {
			b.Errorf("%s: SA %d, %v; want %v", name, h, err, x.want)
		}
	}
	for _, m := range []sal.Mode{sal.ModeCrypto, sal.ModeProtocol, sal.ModeFull} {
		c := good
		c.Mode = m
		if _, err := b.s.AddSA(0, &c); !b.caps.Has(m) && !errors.Is(err, sal.ErrNotSupported) {
			b.Errorf("mode %d: %v", m, err)
		}
	}
	if !b.caps.ESN {
		c := good
		c.ESN = true
		if _, err := b.s.AddSA(0, &c); !errors.Is(err, sal.ErrNotSupported) {
			b.Errorf("ESN: %v", err)
		}
	}
	for _, kb := range []int{128, 192, 256} {
		if _, err := b.s.AddSA(0, new(gcm(2, kb))); slices.Contains(bits, kb) != (err == nil) {
			b.Errorf("key of %d bits: %v", kb, err)
		}
	}
	if _, err := b.s.AddSA(77, &good); !errors.Is(err, sal.ErrNotFound) {
		b.Errorf("unknown group: %v", err)
	}
	l, err := b.s.SAs(0, 0, 1000)
	if err != nil || len(l) > 3+3 {
		b.Errorf("refused SAs are listed: %d, %v", len(l), err)
	}
}

// testGroups: a flush touches one group only.
func testGroups(b *bench) {
	if !b.caps.Groups {
		b.Skip("the engine has no groups")
	}
	bits := b.algorithm().KeyBits[0]
	b.start(4)
	blue, err := b.s.NewGroup("blue")
	if err != nil || blue == 0 {
		b.Fatal(blue, err)
	}
	red, err := b.s.NewGroup("red")
	if err != nil || red == 0 || red == blue {
		b.Fatal(red, err)
	}
	if _, err := b.s.NewGroup("red"); !errors.Is(err, sal.ErrExists) {
		b.Errorf("a name twice: %v", err)
	}
	sas := map[sal.Group]sal.SA{}
	for _, g := range []sal.Group{0, blue, red} {
		sas[g] = b.add(g, gcm(uint32(g), bits))
	}
	works := func(g sal.Group, want sal.Status) {
		b.Helper()
		if j := b.one(b.packet(sas[g], sal.Seal, 1, espOff, 1, 1, 1, pattern(16))); j.Status != want {
			b.Errorf("group %d: status %d, want %d", g, j.Status, want)
		}
	}
	if err := b.s.Flush(blue); err != nil {
		b.Fatal(err)
	}
	works(0, sal.StatusOK)
	works(red, sal.StatusOK)
	works(blue, sal.StatusNoSA)
	sas[blue] = b.add(blue, gcm(9, bits))
	works(blue, sal.StatusOK)
	if err := b.s.DeleteGroup(red); err != nil {
		b.Fatal(err)
	}
	works(red, sal.StatusNoSA)
	works(blue, sal.StatusOK)
	for name, err := range map[string]error{"delete twice": b.s.DeleteGroup(red), "flush": b.s.Flush(red),
		"delete SA": b.s.DelSA(sas[red]), "list": second(b.s.SAs(red, 0, 1))} {
		if !errors.Is(err, sal.ErrNotFound) {
			b.Errorf("%s of a deleted group: %v", name, err)
		}
	}
	if err := b.s.DeleteGroup(0); err == nil {
		b.Error("group 0 was deleted")
	}
	if g, err := b.s.NewGroup("red"); err != nil || g == blue {
		b.Errorf("the name of a deleted group: %d, %v", g, err)
	}
	if err := b.s.Flush(0); err != nil {
		b.Error(err)
	}
	works(0, sal.StatusNoSA)
	works(blue, sal.StatusOK)
}

func second[T any](_ T, err error) error { return err }

// testListing: first N, next N, exact.
func testListing(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(4)
	var hs []sal.SA
	for i := range 10 {
		c := gcm(uint32(i), bits)
		if i&1 != 0 {
			c.Direction = sal.Inbound
		}
		c.ESN = b.caps.ESN && i&2 != 0
		hs = append(hs, b.add(0, c))
	}
	for _, h := range []int{3, 7} {
		if err := b.s.DelSA(hs[h]); err != nil {
			b.Fatal(err)
		}
	}
	var got []sal.SAInfo
	for after := sal.SA(0); ; {
		l, err := b.s.SAs(0, after, 3)
		if err != nil || len(l) > 3 {
			b.Fatal(len(l), err)
		}
		if len(l) == 0 {
			break
		}
		if got = append(got, l...); len(got) > 100 {
			b.Fatal("the list does not end")
		}
		after = l[len(l)-1].SA
	}
	if len(got) != 8 {
		b.Fatalf("%d SAs listed, want 8", len(got))
	}
	seen := map[uint32]bool{}
	for i, x := range got {
		if i > 0 && x.SA <= got[i-1].SA {
			b.Errorf("SA %d behind %d", x.SA, got[i-1].SA)
		}
		n := int(x.SPI - 0x100)
		if n < 0 || n > 9 || n == 3 || n == 7 || seen[x.SPI] || x.SA != hs[n] || x.Group != 0 || x.Mode != sal.ModeCrypto ||
			x.Algorithm != sal.AESGCM16 || x.KeyBits != bits || x.ESN != (b.caps.ESN && n&2 != 0) || x.Direction != sal.Direction(1-n&1) {
			b.Errorf("%+v", x)
		}
		seen[x.SPI] = true
		if l, err := b.s.SAs(0, x.SA-1, 1); err != nil || len(l) != 1 || l[0] != x {
			b.Errorf("exactly SA %d: %+v, %v", x.SA, l, err)
		}
	}
	if l, err := b.s.SAs(0, 0, 0); err != nil || len(l) != 0 {
		b.Errorf("none asked for: %d, %v", len(l), err)
	}
}

// testSessions: applications do not see or reach each other's SAs.
func testSessions(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(4)
	other, err := b.d.Open("other", false)
	if err != nil {
		b.Fatal(err)
	}
	c := gcm(1, bits)
	theirs, err := other.AddSA(0, &c)
	if err != nil {
		b.Fatal(err)
	}
	if l, err := b.s.SAs(0, 0, 10); err != nil || len(l) != 0 {
		b.Errorf("%+v, %v", l, err)
	}
	if err := b.s.DelSA(theirs); !errors.Is(err, sal.ErrNotFound) {
		b.Errorf("another application's SA: %v", err)
	}
	if j := b.one(b.packet(theirs, sal.Seal, 1, espOff, 1, 1, 1, pattern(16))); j.Status != sal.StatusNoSA {
		b.Errorf("another application's SA was used: status %d", j.Status)
	}
	mine := b.add(0, c)
	other.Close()
	if j := b.one(b.packet(mine, sal.Seal, 1, espOff, 1, 1, 1, pattern(16))); j.Status != sal.StatusOK {
		b.Errorf("after another application's end: status %d", j.Status)
	}
	if _, err := other.AddSA(0, &c); !errors.Is(err, sal.ErrGone) {
		b.Errorf("a closed session: %v", err)
	}
}

// testQueues: each queue once.
func testQueues(b *bench) {
	b.start(4)
	for _, i := range []int{-1, b.caps.Queues} {
		if _, err := b.s.Queue(i, b.pool); err == nil {
			b.Errorf("queue %d of %d was opened", i, b.caps.Queues)
		}
	}
	if _, err := b.s.Queue(0, b.pool); !errors.Is(err, sal.ErrBusy) {
		b.Errorf("a queue twice: %v", err)
	}
	if err := b.q.Close(); err != nil {
		b.Error(err)
	}
	q, err := b.s.Queue(0, b.pool)
	if err != nil {
		b.Fatal(err)
	}
	b.q = q
	h := b.add(0, gcm(1, b.algorithm().KeyBits[0]))
	if j := b.one(b.packet(h, sal.Seal, 1, espOff, 1, 1, 1, pattern(16))); j.Status != sal.StatusOK {
		b.Errorf("a queue opened again: status %d", j.Status)
	}
	b.run(nil) // an empty burst is no crime
}

// testModSA: in ModeCrypto there is nothing to change.
func testModSA(b *bench) {
	b.start(4)
	h := b.add(0, gcm(1, b.algorithm().KeyBits[0]))
	if err := b.s.ModSA(h, &sal.SAMod{}); err != nil {
		b.Errorf("no change: %v", err)
	}
	seq := uint64(7)
	for _, m := range []*sal.SAMod{{SeqLimit: &seq}, {State: &sal.SAState{Seq: 1}}} {
		if err := b.s.ModSA(h, m); !errors.Is(err, sal.ErrNotSupported) {
			b.Errorf("%+v: %v", m, err)
		}
	}
	if err := b.s.ModSA(999, &sal.SAMod{}); !errors.Is(err, sal.ErrNotFound) {
		b.Errorf("an SA that is not there: %v", err)
	}
	if err := b.s.DelSA(0); !errors.Is(err, sal.ErrNotFound) {
		b.Errorf("SA 0: %v", err)
	}
}

// testFull: SAs up to the engine's limit, or ten thousand; the first and the
// last work, and a deleted one makes room.
func testFull(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(4)
	n, limited := 10000, false
	if m := b.caps.MaxSAs; m > 0 && m <= n {
		n, limited = m, true
	}
	hs := make([]sal.SA, n)
	seen := map[sal.SA]bool{}
	for i := range hs {
		hs[i] = b.add(0, gcm(uint32(i), bits))
		if seen[hs[i]] {
			b.Fatalf("handle %d twice", hs[i])
		}
		seen[hs[i]] = true
	}
	if limited {
		if _, err := b.s.AddSA(0, new(gcm(1, bits))); !errors.Is(err, sal.ErrFull) {
			b.Errorf("SA %d of %d: %v", n+1, n, err)
		}
	}
	for _, i := range []int{0, n / 2, n - 1} {
		c := gcm(uint32(i), bits)
		j := b.one(b.packet(hs[i], sal.Seal, 1, espOff, c.SPI, 3, 4, pattern(64)))
		if j.Status != sal.StatusOK || string(b.result(&j)) != string(reference(c.Key, 4, aad(false, c.SPI, 0, 3), pattern(64))) {
			b.Errorf("SA %d: status %d", i, j.Status)
		}
	}
	if err := b.s.DelSA(hs[5]); err != nil {
		b.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := b.s.AddSA(0, new(gcm(1, bits))); err == nil {
			break
		} else if !errors.Is(err, sal.ErrFull) || time.Now().After(end) {
			b.Fatal(fmt.Errorf("after a deletion: %w", err))
		}
	}
}

// testGone: the engine ends under its users.
func testGone(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(64)
	c := gcm(1, bits)
	h := b.add(0, c)
	jobs := make([]sal.Job, 8)
	for i := range jobs {
		jobs[i] = b.packet(h, sal.Seal, uint32(i), espOff, 1, uint32(i), 1, pattern(64))
	}
	n := b.q.Submit(jobs)
	if err := b.d.Close(); err != nil {
		b.Fatal(err)
	}
	// What was under way comes back all the same: the buffers are the caller's.
	back := make([]sal.Job, 8)
	for end, got := time.Now().Add(patience), 0; got < n; {
		for _, j := range back[:b.q.Poll(back)] {
			if j.Status != sal.StatusOK && j.Status != sal.StatusDevice {
				b.Errorf("in flight: status %d", j.Status)
			}
			got++
		}
		if time.Now().After(end) {
			b.Fatalf("%d of %d jobs came back", got, n)
		}
	}
	select {
	case e := <-b.s.Events():
		if e.Kind != sal.EventGone || e.SA != 0 {
			b.Errorf("%+v", e)
		}
	case <-time.After(patience):
		b.Error("no event")
	}
	if j := b.one(jobs[0]); j.Status != sal.StatusDevice {
		b.Errorf("status %d", j.Status)
	}
	for name, err := range map[string]error{
		"AddSA": second(b.s.AddSA(0, &c)), "DelSA": b.s.DelSA(h), "Flush": b.s.Flush(0), "Stats": second(b.s.Stats(h)),
		"SAs": second(b.s.SAs(0, 0, 1)), "NewGroup": second(b.s.NewGroup("g")), "Queue": second(b.s.Queue(1, b.pool)),
		"Open": second(b.d.Open("x", false)),
	} {
		if !errors.Is(err, sal.ErrGone) {
			b.Errorf("%s: %v, want ErrGone", name, err)
		}
	}
	if b.d.Info().Ready {
		b.Error("it says that it is ready")
	}
	if err := b.s.Close(); err != nil {
		b.Errorf("Close of the session: %v", err)
	}
	if err := b.d.Close(); err != nil {
		b.Errorf("Close again: %v", err)
	}
}
