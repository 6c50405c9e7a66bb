package supervisor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// logMost is the size from which a log file is put aside when a process is
// started: one older one is kept.
const logMost = 16 << 20

// process is a data plane that this process started.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	done    chan struct{} // closed when it has ended
	how     string        // it ended, after done
}

// start runs a command in a session of its own, so that no signal meant for
// this process reaches it.
func start(command []string, logFile string) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(logFile), 0o755); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(logFile); err == nil && fi.Size() > logMost {
		if err := os.Rename(logFile, logFile+".old"); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(command[0], command[1:]...)
	c.Stderr, c.Stdout = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("starting the data plane: %w", err)
	}
	p := &process{cmd: c, started: time.Now(), done: make(chan struct{})}
	go func() {
		_ = c.Wait()
		p.how = c.ProcessState.String()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait waits for its end, for as long as d.
func (p *process) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-t.C:
	}
}

// kill ends it at once, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // by handle: never another process of the same number
	<-p.done
}
