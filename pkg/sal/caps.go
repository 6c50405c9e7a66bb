package sal

// AlgorithmCaps is one algorithm an engine offers.
type AlgorithmCaps struct {
	Algorithm Algorithm
	KeyBits   []int // without the salt
	IVLen     int   // bytes on the wire
	ICVLen    int
	Align     int // of text plus trailer: 4 for AES-GCM in ESP
}

// Caps is what an engine can do. What is not in it is refused.
type Caps struct {
	Modes      []Mode
	Algorithms []AlgorithmCaps
	ESN        bool
	Sync       bool // Queue.Do works
	WindowMax  int  // ModeProtocol: largest replay window, 0 none
	MaxSAs     int  // 0: no fixed limit
	Queues     int
	Groups     bool
	QueueDepth int // jobs a queue holds in flight
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
