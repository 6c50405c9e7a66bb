package ipsec

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// TestQuotaOf: whatever the rate, lots are neither so small that each packet costs an
// atomic operation nor so large that a purse keeps much of a second; they come at the
// rate, and never faster; and a packet of the largest size fits.
func TestQuotaOf(t *testing.T) {
	for _, rate := range []uint64{1, 2, 7, 999, 1000, 1001, 1999, 123457, 1e6, 1e9, 12.5e9, 1e15} {
		for _, least := range []uint64{depthPackets, largestESP} {
			q := quotaOf(rate, least)
			if q.lot > max(1, int64(rate/lotsPerSecond)) || q.lot < 1 {
				t.Errorf("rate %d: lots of %d", rate, q.lot)
			}
			if is := float64(q.lot) * 1e9 / float64(q.every); is > float64(rate)*(1+1e-12) || is < float64(rate)*0.999 {
				t.Errorf("rate %d: lots come at a rate of %f", rate, is)
			}
			if q.depth < depth || q.depth/q.every*q.lot < int64(least) {
				t.Errorf("rate %d: room for %d, want %d", rate, q.depth/q.every*q.lot, least)
			}
		}
	}
	if q := quotaOf(0, 1); q != (quota{}) {
		t.Errorf("no quota is %+v", q)
	}
}

// TestBucketShared: of a bucket that many draw from at once no more comes than its
// quota, nothing is left lying, and one who draws alone gets it all.
func TestBucketShared(t *testing.T) {
	const rate, drawers = 1_000_000, 4
	q := quotaOf(rate, depthPackets)
	var b bucket
	var now, total atomic.Int64
	const begin = int64(1e18)
	now.Store(begin)
	b.taken.Store(begin)
	var wg sync.WaitGroup
	for i := range drawers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for now.Load() < begin+1e9 {
				got, dry := b.take(&q, now.Load(), 1+r.Int64N(3000))
				if total.Add(got); got == 0 && dry <= begin {
					t.Errorf("dry until %d", dry-begin)
				}
				now.Add(r.Int64N(20_000))
			}
		})
	}
	wg.Wait()
	passed := now.Load() - begin
	if most := passed/1000 + q.lot; total.Load() > most || total.Load() < most-3*q.lot {
		t.Errorf("%d tokens came in %d ns", total.Load(), passed)
	}
	// What is left for longer than the depth is gone.
	at := now.Load() + 10e9
	sum := int64(0)
	for {
		got, dry := b.take(&q, at, 1)
		if got == 0 {
			if dry <= at || dry > at+q.every {
				t.Errorf("dry for %d ns", dry-at)
			}
			break
		}
		sum += got
	}
	if want := q.depth / q.every * q.lot; sum != want {
		t.Errorf("%d tokens were kept, want %d", sum, want)
	}
}
