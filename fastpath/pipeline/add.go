//go:build !race

package pipeline

// Add adds n to a counter that this goroutine alone writes, and others read
// with atomic loads. Aligned 64-bit words do not tear on the machines this runs
// on, and a count that is read a moment late is still a count; a locked
// instruction for each packet would cost as much as forwarding it.
func Add(p *uint64, n uint64) { *p += n }
