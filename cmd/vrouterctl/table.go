package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fatih/color"
)

// A table is rows of text. Its lines are never broken: on a narrow terminal
// the terminal does that, and a pipe into less -S shows them whole.
type table struct {
	columns []column
	rows    [][]string
	empty   string // what is said instead of a table without rows
}

// A column has a heading and a kind of cells.
type column struct {
	head string
	kind kind
}

type kind uint8

const (
	text   kind = iota
	number      // to the right
	state       // coloured by its value
)

func newTable(empty string, columns ...column) *table { return &table{columns: columns, empty: empty} }

// add adds a row; an empty cell shows as "-".
func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = or(strings.NewReplacer("\n", " ", "\t", " ").Replace(printable(c)), "-")
	}
	t.rows = append(t.rows, cells)
}

// more adds a line to the row above: one cell, the others blank.
func (t *table) more(column int, cell string) {
	row := make([]string, len(t.columns))
	row[column] = printable(cell)
	t.rows = append(t.rows, row)
}

// below adds a line to the row above: some cells, the others blank.
func (t *table) below(cells map[int]string) {
	row := make([]string, len(t.columns))
	for i, c := range cells {
		row[i] = printable(c)
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(s *screen) {
	if len(t.rows) == 0 {
		fmt.Fprintln(s, t.empty)
		return
	}
	heads, width := make([]string, len(t.columns)), make([]int, len(t.columns))
	for i, c := range t.columns {
		heads[i], width[i] = c.head, utf8.RuneCountInString(c.head)
		for _, r := range t.rows {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	line := func(cells []string, paint func(i int, cell string) string) {
		var b strings.Builder
		for i, c := range cells {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i > 0 {
				b.WriteString("  ")
			}
			if t.columns[i].kind == number {
				b.WriteString(pad + paint(i, c))
			} else {
				b.WriteString(paint(i, c) + pad)
			}
		}
		fmt.Fprintln(s, strings.TrimRight(b.String(), " "))
	}
	line(heads, func(_ int, cell string) string { return s.paint(color.Bold, cell) })
	for _, r := range t.rows {
		line(r, func(i int, cell string) string {
			if t.columns[i].kind == state {
				return s.paint(hue(cell), cell)
			}
			return cell
		})
	}
}

// hue gives a state its colour.
func hue(s string) color.Attribute {
	switch s {
	case "up", "reachable", "protect", "yes":
		return color.FgGreen
	case "down", "discard", "error", "no":
		return color.FgRed
	case "stale", "incomplete", "attack", "warning":
		return color.FgYellow
	}
	return color.Reset
}
