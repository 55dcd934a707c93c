// kafka-go with the settings of the Go seed against a running broker, and the seed's structs against the events.
//
// Usage: kafkago BROKERS [GOLDEN]
//
// GOLDEN is the folder of golden events. KAFKA_GROUP_ID overrides the seed's group, for a broker whose own
// notification service is a member of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const deadline = 60 * time.Second

// perTopic is how many events each topic gets in each round.
const perTopic = 20

var topics = []string{"task.updated", "task.completed", "user.created"}

func main() {
	if len(os.Args) < 2 {
		fmt.Println("usage: kafkago BROKERS [GOLDEN]")
		os.Exit(64)
	}
	group := os.Getenv("KAFKA_GROUP_ID")
	if group == "" {
		group = "notification-service"
	}
	r := run{brokers: os.Args[1], group: group, id: strconv.FormatInt(time.Now().UnixNano(), 36)}
	checks := []check{
		{"the seed's topics are there, or can be created", r.ensureTopics},
		{"the seed's writer and three readers of one group, each with another topic", r.threeReaders},
		{"the group goes on where it stopped", r.threeReaders},
		{"every record of the first round was committed", r.committed},
	}
	if len(os.Args) > 2 {
		checks = append(checks, check{"the seed's structs read the golden events", func() error {
			return decodeGolden(os.Args[2])
		}})
	}
	failed := 0
	for _, c := range checks {
		if err := c.do(); err != nil {
			failed++
			fmt.Printf("not ok %s: %v\n", c.name, err)
			continue
		}
		fmt.Printf("ok %s\n", c.name)
	}
	fmt.Printf("%d passed, %d failed\n", len(checks)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

type check struct {
	name string
	do   func() error
}

type run struct {
	brokers string
	group   string
	id      string
	round   int
	// The offset after the last record read, by topic and partition.
	next map[string]map[int]int64
}

func (r *run) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(strings.Split(r.brokers, ",")...), Timeout: 10 * time.Second}
}

// ensureTopics creates what is not there: the seed's writer does not ask for auto-creation.
func (r *run) ensureTopics() error {
	request := &kafka.CreateTopicsRequest{}
	for _, topic := range topics {
		request.Topics = append(request.Topics, kafka.TopicConfig{Topic: topic, NumPartitions: 3, ReplicationFactor: 1})
	}
	answer, err := r.client().CreateTopics(context.Background(), request)
	if err != nil {
		return err
	}
	for topic, err := range answer.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("%s: %w", topic, err)
		}
	}
	return nil
}

// publish writes as the seed's producer does: one leader's answer, asynchronously, the topic in each message.
func (r *run) publish(ctx context.Context) error {
	var mutex sync.Mutex
	var failure error
	writer := &kafka.Writer{
		Addr:         kafka.TCP(strings.Split(r.brokers, ",")...),
		RequiredAcks: kafka.RequireOne,
		Async:        true,
		Completion: func(_ []kafka.Message, err error) {
			mutex.Lock()
			defer mutex.Unlock()
			failure = errors.Join(failure, err)
		},
	}
	assignee := 2
	for n := 0; n < perTopic; n++ {
		for _, topic := range topics {
			var event interface{}
			if topic == "user.created" {
				payload := map[string]interface{}{"email": r.mark(n) + "@example.com", "username": r.mark(n)}
				event = userEvent{EventType: topic, UserID: 1_000_000 + n, Timestamp: time.Now(), Payload: payload}
			} else {
				payload := map[string]interface{}{"title": r.mark(n), "completed": n%2 == 0}
				event = taskEvent{EventType: topic, TaskID: 1_000_000 + n, TeamID: 1, ActorID: 1, CreatorID: 1,
					AssigneeID: &assignee, Timestamp: time.Now(), Payload: payload}
			}
			value, err := json.Marshal(event)
			if err != nil {
				return err
			}
			key := []byte(strconv.Itoa(1_000_000 + n))
			if err := writer.WriteMessages(ctx, kafka.Message{Topic: topic, Key: key, Value: value}); err != nil {
				return err
			}
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	mutex.Lock()
	defer mutex.Unlock()
	return failure
}

func (r *run) mark(n int) string {
	return fmt.Sprintf("interop-%s-%d-%d", r.id, r.round, n)
}

// threeReaders publishes a round while three readers of one group, each subscribed to another topic, read it; each
// must see all of its own topic, nothing of another, and nothing of an earlier round.
func (r *run) threeReaders() error {
	r.round++
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	r.next = map[string]map[int]int64{}
	var mutex sync.Mutex
	var wait sync.WaitGroup
	failures := make(chan error, len(topics)+1)
	for _, topic := range topics {
		wait.Add(1)
		go func(topic string) {
			defer wait.Done()
			next, err := r.readRound(ctx, topic)
			if err != nil {
				failures <- fmt.Errorf("%s: %w", topic, err)
			}
			mutex.Lock()
			r.next[topic] = next
			mutex.Unlock()
		}(topic)
	}
	if err := r.publish(ctx); err != nil {
		failures <- fmt.Errorf("publish: %w", err)
		cancel()
	}
	wait.Wait()
	close(failures)
	var all error
	for err := range failures {
		all = errors.Join(all, err)
	}
	return all
}

func (r *run) readRound(ctx context.Context, topic string) (map[int]int64, error) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: strings.Split(r.brokers, ","),
		GroupID: r.group,
		Topic:   topic,
	})
	defer reader.Close()
	next := map[int]int64{}
	seen := map[string]bool{}
	for len(seen) < perTopic {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return next, fmt.Errorf("after %d of %d: %w", len(seen), perTopic, err)
		}
		if message.Topic != topic {
			return next, fmt.Errorf("got a record of %s", message.Topic)
		}
		next[message.Partition] = message.Offset + 1
		if isMarker(message) {
			continue
		}
		if err := decode(topic, message.Value); err != nil {
			return next, fmt.Errorf("partition %d offset %d: %w", message.Partition, message.Offset, err)
		}
		text := string(message.Value)
		for n := 0; n < perTopic; n++ {
			if strings.Contains(text, r.mark(n)+`"`) || strings.Contains(text, r.mark(n)+"@") {
				seen[r.mark(n)] = true
			}
		}
		earlier := fmt.Sprintf("interop-%s-%d-", r.id, r.round-1)
		if strings.Contains(text, earlier) {
			return next, fmt.Errorf("a committed record of the round before came again: %s", text)
		}
	}
	return next, nil
}

// isMarker tells a transaction's marker, which kafka-go hands out like a message (segmentio/kafka-go#1446): its key is
// a version and a kind, its value a version and the coordinator's epoch. The seed logs what it cannot decode, and goes on.
func isMarker(message kafka.Message) bool {
	key := message.Key
	return len(key) == 4 && key[0] == 0 && key[1] == 0 && key[2] == 0 && key[3] <= 1 && len(message.Value) == 6
}

// committed asks the group's coordinator for the offsets after the last round.
func (r *run) committed() error {
	request := &kafka.OffsetFetchRequest{GroupID: r.group, Topics: map[string][]int{}}
	for topic, partitions := range r.next {
		for partition := range partitions {
			request.Topics[topic] = append(request.Topics[topic], partition)
		}
	}
	answer, err := r.client().OffsetFetch(context.Background(), request)
	if err != nil {
		return err
	}
	for topic, partitions := range answer.Topics {
		for _, partition := range partitions {
			if partition.Error != nil {
				return partition.Error
			}
			if partition.CommittedOffset != r.next[topic][partition.Partition] {
				return fmt.Errorf("%s-%d: committed %d, read up to %d", topic, partition.Partition,
					partition.CommittedOffset, r.next[topic][partition.Partition])
			}
		}
	}
	return nil
}
