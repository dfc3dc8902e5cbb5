// bench: the load client. One JSON object on stdout.
//
//	bench down FLOWS SECONDS HOST:PORT    reads a source; Mbit/s
//	bench up FLOWS SECONDS HOST:PORT      writes to a sink; Mbit/s
//	bench rr FLOWS SECONDS HOST:PORT      one byte to an echo server and back, over and over; microseconds
//	bench crr FLOWS SECONDS HOST:PORT     connect, one byte and back, close; per second, and microseconds of each
//	bench udp FLOWS SECONDS HOST:PORT     64 bytes to a UDP echo server and back, 32 under way; per second
//	bench idle FLOWS SECONDS HOST:PORT    that many connections, open for so long; how many
//
// The first half second is not counted: by then buffers are full and windows open, so that what a client writes is what drains.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

const warmup = 500 * time.Millisecond

type load struct {
	addr        string
	begin, stop time.Time // of what counts
}

// count is what one flow did between begin and stop.
type count struct {
	bytes  int64
	echoes int64
	open   int64
	times  []time.Duration
	err    error
}

func bench(args []string) error {
	if len(args) != 4 {
		return errors.New("bench down|up|rr|crr|udp|idle FLOWS SECONDS HOST:PORT")
	}
	flow := map[string]func(load) count{"down": down, "up": up, "rr": rr, "crr": crr, "udp": udp, "idle": idle}[args[0]]
	flows, _ := strconv.Atoi(args[1])
	seconds, _ := strconv.ParseFloat(args[2], 64)
	if flow == nil || flows < 1 || seconds <= 0 {
		return errors.New("bench: " + fmt.Sprint(args))
	}
	begin := time.Now().Add(warmup)
	total := run(flow, flows, load{args[3], begin, begin.Add(time.Duration(seconds * float64(time.Second)))})
	if total.err != nil {
		return total.err
	}
	result := map[string]any{"test": args[0], "flows": flows, "seconds": seconds}
	if total.bytes > 0 {
		result["mbit_s"] = float64(total.bytes) * 8e-6 / seconds
	}
	if total.echoes > 0 {
		result["per_s"] = float64(total.echoes) / seconds
	}
	if total.open > 0 {
		result["open"] = total.open
	}
	if n := len(total.times); n > 0 {
		slices.Sort(total.times)
		result["per_s"] = float64(n) / seconds
		result["p50_us"] = total.times[n/2].Microseconds()
		result["p99_us"] = total.times[n*99/100].Microseconds()
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func run(flow func(load) count, flows int, l load) count {
	var (
		total count
		lock  sync.Mutex
		group sync.WaitGroup
	)
	for range flows {
		group.Go(func() {
			c := flow(l)
			lock.Lock()
			defer lock.Unlock()
			total.bytes += c.bytes
			total.echoes += c.echoes
			total.open += c.open
			total.times = append(total.times, c.times...)
			total.err = errors.Join(total.err, c.err)
		})
	}
	group.Wait()
	return total
}

func (l load) dial() (net.Conn, error) {
	c, err := net.DialTimeout("tcp", l.addr, 5*time.Second)
	if err == nil {
		c.SetDeadline(l.stop.Add(5 * time.Second))
	}
	return c, err
}

func (l load) counts(at time.Time) bool { return at.After(l.begin) && at.Before(l.stop) }

// bulk calls move with a large buffer until the end.
func (l load) bulk(move func(net.Conn, []byte) (int, error)) (c count) {
	conn, err := l.dial()
	if err != nil {
		return count{err: err}
	}
	defer conn.Close()
	b := make([]byte, 256<<10)
	for time.Now().Before(l.stop) {
		n, err := move(conn, b)
		if err != nil {
			return count{err: err}
		}
		if l.counts(time.Now()) {
			c.bytes += int64(n)
		}
	}
	return c
}

func down(l load) count { return l.bulk(func(c net.Conn, b []byte) (int, error) { return c.Read(b) }) }
func up(l load) count   { return l.bulk(func(c net.Conn, b []byte) (int, error) { return c.Write(b) }) }

func echoOne(c net.Conn) error {
	b := []byte{'x'}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// repeat times calls of once until the end.
func (l load) repeat(once func() error) (c count) {
	for {
		at := time.Now()
		if !at.Before(l.stop) {
			return c
		}
		if err := once(); err != nil {
			return count{err: err}
		}
		if l.counts(at) {
			c.times = append(c.times, time.Since(at))
		}
	}
}

func rr(l load) count {
	conn, err := l.dial()
	if err != nil {
		return count{err: err}
	}
	defer conn.Close()
	return l.repeat(func() error { return echoOne(conn) })
}

func crr(l load) count {
	return l.repeat(func() error {
		conn, err := l.dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		return echoOne(conn)
	})
}

// udp keeps 32 datagrams under way; a lost one is made up for after 100 ms.
func udp(l load) (c count) {
	conn, err := net.Dial("udp", l.addr)
	if err != nil {
		return count{err: err}
	}
	defer conn.Close()
	b := make([]byte, 64)
	burst := func() {
		for range 32 {
			conn.Write(b)
		}
	}
	for burst(); time.Now().Before(l.stop); {
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Read(b); err != nil {
			burst()
			continue
		}
		if l.counts(time.Now()) {
			c.echoes++
		}
		conn.Write(b)
	}
	if c.echoes == 0 {
		c.err = errors.New("no datagram came back")
	}
	return c
}

// dialing bounds the connections of idle that are being made at once.
var dialing = make(chan struct{}, 64)

func idle(l load) count {
	dialing <- struct{}{}
	conn, err := l.dial()
	<-dialing
	if err != nil {
		return count{err: err}
	}
	defer conn.Close()
	time.Sleep(time.Until(l.stop))
	return count{open: 1}
}
