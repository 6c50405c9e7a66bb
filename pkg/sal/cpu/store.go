//go:build !race

package cpu

// store writes a word that only one goroutine writes and others may load. A
// plain store does: aligned words of 64 bits are not torn on the platforms
// that this engine runs on. An atomic one would be a locked instruction, 2 ns
// for each packet and word.
func store(p *uint64, v uint64) { *p = v }
