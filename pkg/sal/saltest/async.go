package saltest

import (
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// testQueueFull submits until the queue takes no more: it never holds more than it
// says, what it took comes back once and in order, what it did not take was not
// begun, and polled jobs make room.
func testQueueFull(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(b.caps.QueueDepth + 1)
	h := b.add(0, gcm(1, bits))
	job := func(n int) sal.Job {
		j := b.packet(h, sal.Seal, uint32(n), espOff, 1, uint32(n), uint64(n), pattern(64))
		j.Cookie = uint64(n)
		return j
	}
	taken := 0
	for full := false; !full; {
		n := min(100, b.caps.QueueDepth+1-taken)
		jobs := make([]sal.Job, n)
		for i := range jobs {
			jobs[i] = job(taken + i)
		}
		k := b.q.Submit(jobs)
		if taken += k; b.q.InFlight() != taken || taken > b.caps.QueueDepth {
			b.Fatalf("%d jobs taken, %d in flight, depth %d", taken, b.q.InFlight(), b.caps.QueueDepth)
		}
		full = k < n
	}
	text := b.buffer(uint32(taken))[espOff+espLen+ivLen:][:64]
	if string(text) != string(pattern(64)) {
		b.Error("a job that was not taken was begun")
	}
	out := make([]sal.Job, 64)
	back := 0
	poll := func(until int) {
		b.Helper()
		for end := time.Now().Add(patience); back < until; {
			for _, j := range out[:b.q.Poll(out)] {
				if j.Cookie != uint64(back) || j.Status != sal.StatusOK {
					b.Fatalf("job %d came with status %d when %d was due", j.Cookie, j.Status, back)
				}
				back++
			}
			if time.Now().After(end) {
				b.Fatalf("%d of %d jobs came back", back, until)
			}
		}
	}
	poll(1)
	for end := time.Now().Add(patience); b.q.Submit([]sal.Job{job(taken)}) == 0; {
		if time.Now().After(end) {
			b.Fatal("jobs that were polled made no room")
		}
	}
	taken++
	poll(taken)
	if b.q.InFlight() != 0 || b.q.Poll(out) != 0 {
		b.Errorf("all jobs are back, and %d are in flight", b.q.InFlight())
	}
}

// testRings: a queue that is a sal.Ringer wakes who sleeps until its jobs are done,
// also when the engine is lost with jobs under way, and nobody once the bell is taken
// away.
func testRings(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(64)
	r, ok := b.q.(sal.Ringer)
	if !ok {
		b.Skip("the engine's queues ring no bells")
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	var bell sal.Bell
	bell.Init(fd)
	h := b.add(0, gcm(1, bits))
	submit := func() {
		b.Helper()
		if b.q.Submit([]sal.Job{b.packet(h, sal.Seal, 1, espOff, 1, 1, 1, pattern(64))}) != 1 {
			b.Fatal("an empty queue takes nothing")
		}
	}
	// As a worker does: answer the bell, look, sleep on the descriptor, look again.
	await := func() (s sal.Status) {
		b.Helper()
		var out [1]sal.Job
		var count [8]byte
		for bell.Answer(); b.q.Poll(out[:]) == 0; bell.Answer() {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			if err == nil && n == 0 {
				b.Fatal("a job is under way and nobody rings")
			}
			_, _ = unix.Read(fd, count[:])
		}
		return out[0].Status
	}
	r.RingAt(&bell)
	for range 100 {
		submit()
		if s := await(); s != sal.StatusOK {
			b.Fatalf("status %d", s)
		}
	}
	r.RingAt(nil)
	bell.Answer()
	submit()
	var out [1]sal.Job
	for b.q.Poll(out[:]) == 0 {
	}
	if bell.Answer() {
		b.Error("a bell was rung that had been taken away")
	}
	r.RingAt(&bell)
	submit()
	if err := b.d.Close(); err != nil {
		b.Fatal(err)
	}
	if s := await(); s != sal.StatusOK && s != sal.StatusDevice {
		b.Errorf("status %d from an engine that is lost", s)
	}
	r.RingAt(nil)
}
