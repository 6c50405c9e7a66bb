package pool_test

import (
	"fmt"
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/pool"
	"vrouter/pkg/sal/saltest"
)

// engine is a pool of so many threads around the software engine.
func engine(t testing.TB, threads int) *pool.Engine {
	e, err := pool.New("pool0", cpu.New("inner"), pool.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSuite(t *testing.T) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", n), func(t *testing.T) {
			saltest.Run(t, func() sal.Device { return engine(t, n) })
		})
	}
}
