// Package turns runs rivals as processes that work one after the other, each asleep while another works.
package turns

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
)

// Player is a process that answers each line it reads with a line of JSON.
type Player struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start runs the command, whose standard error goes to this process's.
func Start(c *exec.Cmd) (*Player, error) {
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &Player{c, in, bufio.NewReader(out)}, c.Start()
}

// Ask writes a number and decodes the answer.
func (p *Player) Ask(n int, answer any) error {
	if _, err := fmt.Fprintln(p.in, n); err != nil {
		return err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s ended: %w", p.cmd.Path, err)
	}
	return json.Unmarshal(line, answer)
}

// Stop ends the process by closing what it reads, and waits.
func (p *Player) Stop() {
	p.in.Close()
	_ = p.cmd.Wait()
}

// Median of at least one number; s is left as it is.
func Median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// StartAll starts one program after the other; stop ends those that run.
func StartAll(commands []*exec.Cmd) (players []*Player, stop func(), err error) {
	stop = func() {
		for _, p := range players {
			p.Stop()
		}
	}
	for _, c := range commands {
		p, err := Start(c)
		if err != nil {
			stop()
			return nil, func() {}, err
		}
		players = append(players, p)
	}
	return players, stop, nil
}
