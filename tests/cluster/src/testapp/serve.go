// What a pod serves:
//
//	8080  HTTP/1.1 and h2c: any path tells what was asked, and by whom; see routes()
//	7000  TCP echo, half-close as it comes
//	7001  UDP echo
//	7002  script: the first line says how the connection shall go on; see script()
//	9000  sink: reads until the end
//	9001  source: zeros until the peer has enough
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func serve() error {
	go accept(":7000", func(c *net.TCPConn) { io.Copy(c, c); c.CloseWrite() })
	go accept(":7002", script)
	go accept(":9000", func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	go accept(":9001", func(c *net.TCPConn) { io.Copy(c, zeros{}) })
	go udpEcho(":7001")
	go func() { pause(); os.Exit(0) }()
	s := &http.Server{Addr: ":8080", Handler: routes(), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s.ListenAndServe()
}

func web(args []string) error {
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "the rest of the internet, asked as", r.Host)
	}))
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", describe)
	mux.HandleFunc("/bulk", bulk)
	mux.HandleFunc("/sleep", func(w http.ResponseWriter, r *http.Request) { // answer after ms=N
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		fmt.Fprintln(w, "slept", ms)
	})
	mux.HandleFunc("/reset", func(w http.ResponseWriter, r *http.Request) { // answer with a TCP reset (HTTP/1 only)
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			reset(c.(*net.TCPConn))
		}
	})
	mux.HandleFunc("/ending", func(w http.ResponseWriter, r *http.Request) { // how the connection noted as key=K ended
		fmt.Fprint(w, endings.of(r.FormValue("key")))
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(1) })
	return mux
}

func describe(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		grpcEcho(w, r)
		return
	}
	host, _ := os.Hostname()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	w.Header().Set("X-Pod", host)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"pod": host, "proto": r.Proto, "method": r.Method, "host": r.Host,
		"uri": r.RequestURI, "remote": r.RemoteAddr, "headers": r.Header, "body": string(body)})
}

// bulk: GET sends bytes=N, zeros or, with seed=S, the stream of that seed; POST swallows the body and answers its length and SHA-256.
func bulk(w http.ResponseWriter, r *http.Request) {
	if r.Method != "GET" {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			log.Print("bulk: ", err)
		}
		fmt.Fprintf(w, "%d %s\n", n, hex.EncodeToString(sum.Sum(nil)))
		return
	}
	n, _ := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	if seed := r.FormValue("seed"); seed != "" {
		io.CopyN(w, newStream(seed), n)
	} else {
		io.CopyN(w, zeros{}, n)
	}
}

// grpcEcho sends the request's frames back, then the trailers of a gRPC call that went well.
func grpcEcho(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	rc, b := http.NewResponseController(w), make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(b)
		w.Write(b[:n])
		rc.Flush()
		if err != nil {
			break
		}
	}
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set("Grpc-Message", "ok")
}

// script plays what the first line says:
//
//	close KEY       send FIN at once, then go on as note
//	reset           send RST at once
//	late MS         read until the peer's FIN, wait MS, then answer with length and SHA-256 of what came
//	deaf            never read again
//	source N SEED   send N bytes of the seed's stream, then FIN
//	note KEY        read until the end, and remember for /ending?key=KEY whether it was "eof" or "reset", and after how many bytes
func script(c *net.TCPConn) {
	in := bufio.NewReader(c)
	line, _ := in.ReadString('\n')
	word := append(strings.Fields(line), "", "", "")
	switch word[0] {
	case "close":
		c.CloseWrite()
		n, err := io.Copy(io.Discard, in)
		endings.note(word[1], n, err)
	case "reset":
		reset(c)
	case "late":
		late(c, in, word[1])
	case "deaf":
		time.Sleep(10 * time.Minute)
	case "source":
		n, _ := strconv.ParseInt(word[1], 10, 64)
		io.CopyN(c, newStream(word[2]), n)
		c.CloseWrite()
		io.Copy(io.Discard, in)
	case "note":
		n, err := io.Copy(io.Discard, in)
		endings.note(word[1], n, err)
	}
}

func late(c *net.TCPConn, in io.Reader, ms string) {
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		return
	}
	wait, _ := strconv.Atoi(ms)
	time.Sleep(time.Duration(wait) * time.Millisecond)
	fmt.Fprintf(c, "%d %s\n", n, hex.EncodeToString(sum.Sum(nil)))
}

func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// endings remembers how noted connections ended.
var endings = notes{how: map[string]string{}}

type notes struct {
	sync.Mutex
	how map[string]string
}

func (n *notes) note(key string, bytes int64, err error) {
	how := "eof"
	if errors.Is(err, syscall.ECONNRESET) {
		how = "reset"
	} else if err != nil {
		how = err.Error()
	}
	n.Lock()
	defer n.Unlock()
	n.how[key] = fmt.Sprint(how, " ", bytes)
}

func (n *notes) of(key string) string {
	n.Lock()
	defer n.Unlock()
	return n.how[key]
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// stream: MiB after MiB, each the number of the MiB (8 bytes, big endian) and then the same noise, made from the seed.
// So it is cheap to make in any language, and no two places of it look alike.
type stream struct {
	block []byte
	at    int64
}

func newStream(seed string) *stream {
	s := &stream{block: make([]byte, 0, 1<<20)}
	s.block = append(s.block, make([]byte, 8)...)
	for sum := sha256.Sum256([]byte(seed)); len(s.block) < 1<<20; sum = sha256.Sum256(sum[:]) {
		s.block = append(s.block, sum[:]...)
	}
	s.block = s.block[:1<<20]
	return s
}

func (s *stream) Read(b []byte) (int, error) {
	size := int64(len(s.block))
	if s.at%size < 8 {
		binary.BigEndian.PutUint64(s.block, uint64(s.at/size))
	}
	n := copy(b, s.block[s.at%size:])
	s.at += int64(n)
	return n, nil
}

func accept(addr string, f func(*net.TCPConn)) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			continue
		}
		go func() { defer c.Close(); f(c.(*net.TCPConn)) }()
	}
}

func udpEcho(addr string) {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 65536)
	for {
		if n, a, err := c.ReadFrom(b); err == nil {
			c.WriteTo(b[:n], a)
		}
	}
}
