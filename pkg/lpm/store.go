package lpm

import "sync"

// store hands out lines and arrays of runs. It has a lock of its own, because
// what is freed comes back on the goroutine that polls the Grace, perhaps
// while a change is under way.
//
// Arrays have a size in units of eight words. A freed array is kept for one of
// its size; when none of a size is left, the rest of the table is used, and
// only then is a larger one cut. Arrays are never joined again.
type store struct {
	mu       sync.Mutex
	closed   bool
	nextLine uint32
	maxLine  uint32
	freeL    []uint32
	nextEnt  uint32
	maxEnt   uint32
	freeE    [maxUnits + 1][]uint32
}

const (
	unit     = 8          // words
	maxUnits = 256 / unit // the array of a node with 256 runs

	// What one change can need at most: thirteen levels for each of five routes
	// when a tail bursts, with short arrays, and two full nodes made anew.
	reserveLines = 96
	reserveEnts  = 96*2*unit + 2*256
)

func (a *store) init(lines, ents int) {
	// Line 0 and word 0 are never given: they stand for none.
	a.nextLine, a.maxLine = 1, uint32(lines)
	a.nextEnt, a.maxEnt = unit, uint32(ents)
}

// room says whether n changes can certainly be carried out.
func (a *store) room(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.maxLine-a.nextLine)+len(a.freeL) >= n*reserveLines &&
		int(a.maxEnt-a.nextEnt)+256*len(a.freeE[maxUnits]) >= n*reserveEnts+256
}

func (a *store) line() uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := len(a.freeL); k > 0 {
		i := a.freeL[k-1]
		a.freeL = a.freeL[:k-1]
		return i
	}
	if a.nextLine == a.maxLine {
		panic("lpm: out of lines in spite of the reserve")
	}
	a.nextLine++
	return a.nextLine - 1
}

// freeLine takes back a line; the caller holds the lock.
func (a *store) freeLine(i uint32) { a.freeL = append(a.freeL, i) }

func units(n int) int { return (n + unit - 1) / unit }

// run is where an array of n words begins.
func (a *store) run(n int) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := units(n)
	if k := len(a.freeE[u]); k > 0 {
		i := a.freeE[u][k-1]
		a.freeE[u] = a.freeE[u][:k-1]
		return i
	}
	if a.maxEnt-a.nextEnt >= uint32(u*unit) {
		a.nextEnt += uint32(u * unit)
		return a.nextEnt - uint32(u*unit)
	}
	for v := u + 1; v <= maxUnits; v++ {
		if k := len(a.freeE[v]); k > 0 {
			i := a.freeE[v][k-1]
			a.freeE[v] = a.freeE[v][:k-1]
			a.freeE[v-u] = append(a.freeE[v-u], i+uint32(u*unit))
			return i
		}
	}
	panic("lpm: out of runs in spite of the reserve")
}

// freeRun takes back an array of n words; the caller holds the lock.
func (a *store) freeRun(i uint32, n int) { a.freeE[units(n)] = append(a.freeE[units(n)], i) }

// used is the number of lines and of run words that were ever handed out, and
// how many of them lie free.
func (a *store) used() (lines, freeLines, ents, freeEnts int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for u, l := range a.freeE {
		freeEnts += u * unit * len(l)
	}
	return int(a.nextLine) - 1, len(a.freeL), int(a.nextEnt) - unit, freeEnts
}
