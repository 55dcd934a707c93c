// Two kafka-go producers, acks=all and acks=1, that go on through every fault: go run ./crash BROKERS, and NUMBER TOPIC
// PARTITIONS for each.
// What it reads and prints is described in tests/crash/clients/CrashProducers.java.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

var (
	output   = bufio.NewWriter(os.Stdout)
	printing sync.Mutex
)

func say(format string, values ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Fprintf(output, format+"\n", values...)
	output.Flush()
}

func value(id int64) []byte {
	text := fmt.Appendf(nil, "%016x", id)
	return append(text, bytes.Repeat([]byte{byte('a' + id%26)}, int(id%101*20))...)
}

// place sends a record to the partition that its header names.
func place(message kafka.Message, _ ...int) int {
	return int(binary.BigEndian.Uint32(message.Headers[0].Value))
}

func acknowledged(messages []kafka.Message, err error) {
	for _, message := range messages {
		id, _ := strconv.ParseInt(string(message.Value[:16]), 16, 64)
		if err == nil {
			say("A %d %d", id, message.Offset)
		} else {
			say("E %d %s", id, name(err))
		}
	}
}

// name is a word for an error; all that a broken connection brings about is one.
func name(err error) string {
	var answer kafka.Error
	var network net.Error
	switch {
	case errors.As(err, &answer):
		return strings.ReplaceAll(answer.Title(), " ", "")
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.DeadlineExceeded):
		return "network"
	default:
		return strings.ReplaceAll(err.Error(), " ", "_")
	}
}

var (
	budget   atomic.Int64
	stopping atomic.Bool
)

func main() {
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			if records, err := strconv.ParseInt(input.Text(), 10, 64); err == nil {
				budget.Store(records)
			}
		}
		stopping.Store(true)
	}()
	var producers sync.WaitGroup
	for i, acks := range []kafka.RequiredAcks{kafka.RequireAll, kafka.RequireOne} {
		producers.Add(1)
		go func() {
			defer producers.Done()
			produce(os.Args[2+3*i:5+3*i], acks)
		}()
	}
	producers.Wait()
}

func produce(arguments []string, acks kafka.RequiredAcks) {
	number, _ := strconv.ParseInt(arguments[0], 10, 64)
	partitions, _ := strconv.ParseInt(arguments[2], 10, 64)
	writer := &kafka.Writer{
		Addr:            kafka.TCP(os.Args[1]),
		Topic:           arguments[1],
		Balancer:        kafka.BalancerFunc(place),
		RequiredAcks:    acks,
		BatchSize:       20,
		BatchTimeout:    time.Millisecond,
		MaxAttempts:     1000,
		WriteBackoffMin: 5 * time.Millisecond,
		WriteBackoffMax: 20 * time.Millisecond,
		Completion:      acknowledged,
	}
	for sent := int64(0); !stopping.Load(); {
		if sent >= budget.Load() {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		var batch []kafka.Message
		for end := min(sent+20, budget.Load()); sent < end; sent++ {
			id, partition, key := number<<40+sent, sent%partitions, sent%500
			say("S %d %d %d -", id, partition, key)
			batch = append(batch, kafka.Message{
				Key:     fmt.Appendf(nil, "k%d", key),
				Value:   value(id),
				Headers: []kafka.Header{{Key: "p", Value: binary.BigEndian.AppendUint32(nil, uint32(partition))}},
			})
		}
		// What was not written may be there or not; the next are other records.
		if err := writer.WriteMessages(context.Background(), batch...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := writer.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
