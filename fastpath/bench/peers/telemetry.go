package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// socketOf is where a program of DPDK that runs as root answers telemetry.
func socketOf(prefix string) string { return "/var/run/dpdk/" + prefix + "/dpdk_telemetry.v2" }

const (
	settle  = 500 * time.Millisecond
	window  = 25 * time.Millisecond
	windows = 150
	// quick is how long reading all counters may take for the reading to count: a reader
	// that was not running meanwhile would make a window longer or shorter than it
	// is taken for. Where that cannot be had, windows grow with what can.
	quick     = 250 * time.Microsecond
	slow      = time.Millisecond
	perWindow = 100 // so many times a reading, a window is at the least
)

// snapshot is how many packets each port has sent, at a time.
type snapshot struct {
	at   time.Time
	sent map[int]uint64
}

// watch reads the counters of a program until it has seen its windows, and gives the
// nanoseconds for a packet in the best: of the port that sends most.
func watch(ctx context.Context, ended <-chan struct{}, socket string) (float64, error) {
	var c *net.UnixConn
	for c == nil {
		x, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
		if err == nil {
			c = x
			break
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no counters: %w", err)
		case <-ended:
			return 0, fmt.Errorf("it ended before it could be asked")
		case <-time.After(50 * time.Millisecond):
		}
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 1<<16)
	if _, err := c.Read(buf); err != nil { // who it is
		return 0, err
	}
	ask := func(q string) ([]byte, error) {
		if _, err := c.Write([]byte(q)); err != nil {
			return nil, err
		}
		n, err := c.Read(buf)
		return buf[:n], err
	}
	// Ports come up one after the other.
	time.Sleep(settle)
	answer, err := ask("/ethdev/list")
	if err != nil {
		return 0, err
	}
	ports, err := parsePorts(answer)
	if err != nil {
		return 0, err
	}
	limit := quick
	read := func() (s snapshot, err error) {
		for try := 1; ; try++ {
			s.sent = map[int]uint64{}
			from := time.Now()
			for _, p := range ports {
				answer, err := ask(fmt.Sprintf("/ethdev/stats,%d", p))
				if err != nil {
					return s, err
				}
				if s.sent[p], err = parseSent(answer); err != nil {
					return s, err
				}
			}
			took := time.Since(from)
			s.at = from.Add(took / 2)
			if took < limit {
				return s, nil
			}
			if try%100 == 0 {
				if limit *= 2; limit > slow {
					return s, fmt.Errorf("counters could not be read in %v", slow)
				}
			}
			time.Sleep(time.Millisecond)
		}
	}
	var all []snapshot
	for range windows + 1 {
		s, err := read()
		if err != nil {
			return 0, err
		}
		all = append(all, s)
		time.Sleep(max(window, perWindow*limit))
	}
	return bestWindow(all)
}

// bestWindow is the least time for a packet between two readings.
func bestWindow(all []snapshot) (float64, error) {
	best := 0.0
	for i := 1; i < len(all); i++ {
		for p, sent := range all[i].sent {
			if n := sent - all[i-1].sent[p]; sent > all[i-1].sent[p] {
				if ns := float64(all[i].at.Sub(all[i-1].at)) / float64(n); best == 0 || ns < best {
					best = ns
				}
			}
		}
	}
	if best == 0 {
		return 0, fmt.Errorf("nothing was sent")
	}
	return best, nil
}

// parsePorts and parseSent read answers: an object with the question as its one name.
func parsePorts(b []byte) ([]int, error) {
	var a map[string][]int
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	ports, ok := a["/ethdev/list"]
	if !ok || len(ports) == 0 {
		return nil, fmt.Errorf("telemetry: no ports in %.80q", b)
	}
	return ports, nil
}

func parseSent(b []byte) (uint64, error) {
	var a map[string]struct {
		Sent *uint64 `json:"opackets"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return 0, fmt.Errorf("telemetry: %w", err)
	}
	s := a["/ethdev/stats"].Sent
	if s == nil {
		return 0, fmt.Errorf("telemetry: no opackets in %.80q", b)
	}
	return *s, nil
}
