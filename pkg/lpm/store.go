package lpm

import (
	"math/bits"
	"sync"

	"vrouter/pkg/mem"
)

// store hands out lines and arrays of runs. It has a lock of its own, because
// what is freed comes back on the goroutine that polls the Grace, perhaps
// while a change is under way.
//
// Arrays are blocks of 8, 16, … 256 words and a binary buddy system: a block
// is halved when none of a size is left, and joined with its other half when
// both are free. So a burst of changes that leaves much waiting for the
// workers does not spoil the memory for other sizes.
type store struct {
	mu     sync.Mutex
	closed bool

	nextLine uint32 // lines from here on were never handed out
	maxLine  uint32
	freeL    []uint32

	words   []uint32             // the arrays; a free block holds its list's links in words 0 (next) and 1 (previous)
	state   mem.Table[uint8]     // for each unit: 1+order where a free block begins, else 0
	nextEnt uint32               // words from here on were never handed out
	head    [maxOrder + 1]uint32 // the free blocks of each order; 0 ends a list
	count   [maxOrder + 1]int
}

const (
	unit     = 8 // words of the smallest block
	maxOrder = 5 // 8 << 5: the array of a node with 256 runs
	maxBlock = unit << maxOrder

	// What one change can need at most: when a tail bursts, thirteen levels for
	// each of five routes, with at most eleven runs each; and a few full nodes
	// made anew.
	reserveLines = 96
	reserveEnts  = 96*2*unit + 4*maxBlock
)

func (a *store) init(lines int, words []uint32) (err error) {
	// Line 0 and the first block are never given: they stand for none.
	a.nextLine, a.maxLine = 1, uint32(lines)
	a.words, a.nextEnt = words, maxBlock
	a.state, err = mem.NewTable[uint8](len(words)/unit, mem.Options{SmallPages: true})
	return err
}

// close ends the store; what is reclaimed later is ignored.
func (a *store) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.words = nil
	return a.state.Unmap()
}

// room says whether n changes can certainly be carried out.
func (a *store) room(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.maxLine-a.nextLine)+len(a.freeL) >= n*reserveLines &&
		len(a.words)-int(a.nextEnt)+maxBlock*a.count[maxOrder] >= n*reserveEnts
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

// order is the size of the block for n words.
func order(n int) int { return bits.Len(uint(n-1) / unit) }

// run is where an array of n words, at most 256, begins.
func (a *store) run(n int) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	want := order(n)
	k := want
	for k <= maxOrder && a.head[k] == 0 {
		k++
	}
	var b uint32
	if k <= maxOrder {
		b = a.head[k]
		a.unlink(b, k)
	} else {
		if int(a.nextEnt)+maxBlock > len(a.words) {
			panic("lpm: out of runs in spite of the reserve")
		}
		b, k = a.nextEnt, maxOrder
		a.nextEnt += maxBlock
	}
	for ; k > want; k-- {
		a.link(b+unit<<(k-1), k-1)
	}
	return b
}

// freeRun takes back an array of n words; the caller holds the lock.
func (a *store) freeRun(b uint32, n int) {
	k := order(n)
	for ; k < maxOrder; k++ {
		other := b ^ unit<<k
		if *a.state.At(other / unit) != uint8(k+1) {
			break
		}
		a.unlink(other, k)
		b &= other
	}
	a.link(b, k)
}

func (a *store) link(b uint32, k int) {
	next := a.head[k]
	a.words[b], a.words[b+1] = next, 0
	if next != 0 {
		a.words[next+1] = b
	}
	a.head[k] = b
	a.count[k]++
	*a.state.At(b / unit) = uint8(k + 1)
}

func (a *store) unlink(b uint32, k int) {
	next, prev := a.words[b], a.words[b+1]
	if prev != 0 {
		a.words[prev] = next
	} else {
		a.head[k] = next
	}
	if next != 0 {
		a.words[next+1] = prev
	}
	a.count[k]--
	*a.state.At(b / unit) = 0
}

// used is the number of lines and of words that were ever handed out, and how
// many of them lie free.
func (a *store) used() (lines, freeLines, ents, freeEnts int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, n := range a.count {
		freeEnts += n * unit << k
	}
	return int(a.nextLine) - 1, len(a.freeL), int(a.nextEnt) - maxBlock, freeEnts
}
