package lab

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A process that made a lab and is killed leaves no namespace, no process and no
// file behind.
func TestKilledLeavesNothing(t *testing.T) {
	if os.Getenv("LAB_CHILD") == "1" {
		l, err := New()
		if err == nil {
			var n *NS
			if n, err = l.NS("x", false); err == nil {
				_, err = n.Start("sleep", "sleep", "1000")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("made " + l.id + " " + l.Dir + "\n")
		select {}
	}
	if err := Usable(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := exec.Command(os.Args[0], "-test.run", "^TestKilledLeavesNothing$")
	c.Env = append(os.Environ(), "LAB_CHILD=1")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill() // whatever happens, the child ends
	line, err := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) != 3 || f[0] != "made" {
		t.Fatalf("the child said %q: %v", line, err)
	}
	id, dir := f[1], f[2]
	ns := filepath.Join("/var/run/netns", id+"-x")
	if _, err := os.Stat(ns); err != nil {
		t.Fatal(err)
	}
	var pids []byte
	if err := Until(10*time.Second, "its process is in the namespace", func() bool {
		pids, err = exec.Command("ip", "netns", "pids", id+"-x").Output()
		return err == nil && len(strings.Fields(string(pids))) == 1
	}); err != nil {
		t.Fatalf("processes in the namespace: %q, %v", pids, err)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if err := Until(10*time.Second, "all of it is gone", func() bool {
		for _, p := range []string{ns, dir, "/proc/" + strings.TrimSpace(string(pids)) + "/exe"} {
			if _, err := os.Stat(p); err == nil {
				return false
			}
		}
		return true
	}); err != nil {
		t.Error(err)
	}
}
