package sal

import "slices"

// AlgorithmCaps is one algorithm an engine offers.
type AlgorithmCaps struct {
	Algorithm Algorithm
	KeyBits   []int // without the salt
	IVLen     int   // bytes on the wire
	ICVLen    int   // 0: that of the integrity algorithm beside it
	Align     int   // of text plus trailer: 4 for AES-GCM in ESP
}

// Caps is what an engine can do. What is not in it is refused.
type Caps struct {
	Modes      []Mode
	Algorithms []AlgorithmCaps
	// Integrity goes with every one of Algorithms that is no AEAD.
	Integrity  []Integrity
	ESN        bool
	Sync       bool // Queue.Do works
	WindowMax  int  // ModeProtocol: largest replay window, 0 none
	MaxSAs     int  // 0: no fixed limit
	Queues     int
	Groups     bool
	QueueDepth int // jobs a queue holds in flight
}

// Does tells whether the engine offers an algorithm with keys of so many bits
// and an integrity algorithm beside it.
func (c *Caps) Does(a Algorithm, keyBits int, i Integrity) bool {
	s, _ := a.Shape()
	for k := range c.Algorithms {
		x := &c.Algorithms[k]
		if x.Algorithm == a && slices.Contains(x.KeyBits, keyBits) {
			return s.AEAD == (i == NoIntegrity) && (s.AEAD || slices.Contains(c.Integrity, i))
		}
	}
	return false
}

// Has tells whether the engine offers a mode.
func (c *Caps) Has(m Mode) bool {
	for _, x := range c.Modes {
		if x == m {
			return true
		}
	}
	return false
}
