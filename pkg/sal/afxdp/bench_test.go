package afxdp_test

import (
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afxdp"
	"vrouter/pkg/sal/internal/nstest"
)

// each runs a benchmark in the device's driver and in the general receive path.
func each(b *testing.B, f func(*testing.B, sal.Driver)) {
	b.Run("copy", func(b *testing.B) { f(b, afxdp.New(afxdp.Options{})) })
	b.Run("generic", func(b *testing.B) { f(b, afxdp.New(afxdp.Options{Generic: true})) })
}

// BenchmarkLoad is one sender flat out.
func BenchmarkLoad(b *testing.B) { each(b, nstest.Load) }

// BenchmarkPaced is 20 000 frames a second.
func BenchmarkPaced(b *testing.B) { each(b, nstest.Paced) }

// BenchmarkStall is what the ring loses while nobody reads.
func BenchmarkStall(b *testing.B) { each(b, nstest.Stall) }
