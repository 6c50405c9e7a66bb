package main

import "testing"

// What is checked in must be what the modules give: a change of a module that
// is not followed by make generate fails here.
func TestOutputIsCurrent(t *testing.T) {
	if err := run(true, ""); err != nil {
		t.Error(err)
	}
}
