// Three producers of Apache Kafka's own Java client that go on through every fault: one idempotent, one transactional, and
// one with acks=1.
//
// java -cp "$KAFKA_LIBS/*" CrashProducers.java BROKERS, and NUMBER TOPIC PARTITIONS for each
//
// Standard input: how many records each may have sent by now, one number a line; its end is the end.
// Standard output, one line each: "S id partition key transaction" before a send (transaction "-" for none),
// "A id offset" for an acknowledgement, "T transaction U|C|A" for a transaction unknown, committed, aborted, "E id error"
// for something that failed, and "F id error" for an error after which the producer is replaced.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class CrashProducers {
    static final PrintStream OUT = new PrintStream(System.out, false);
    static volatile long budget = 0;
    static volatile boolean stopping = false;

    public static void main(String[] arguments) throws Exception {
        Load[] loads = {
            new Load(arguments, 1, "all", false),
            new Load(arguments, 4, "all", true),
            new Load(arguments, 7, "1", false),
        };
        Thread[] threads = new Thread[loads.length];
        for (int i = 0; i < loads.length; i++) {
            threads[i] = new Thread(loads[i]::run);
            threads[i].start();
        }
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            budget = Long.parseLong(line.trim());
        }
        stopping = true;
        for (Thread thread : threads) {
            thread.join();
        }
        OUT.flush();
    }

    static void say(String line) {
        synchronized (OUT) {
            OUT.print(line + "\n");
            OUT.flush();
        }
    }

    static byte[] value(long id) {
        byte[] value = new byte[16 + (int) (id % 101 * 20)];
        Arrays.fill(value, (byte) ('a' + id % 26));
        byte[] head = String.format("%016x", id).getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(head, 0, value, 0, 16);
        return value;
    }

    static class Load {
        final String brokers;
        final long number;
        final String topic;
        final int partitions;
        final String acks;
        final boolean transactional;
        final Random random;
        KafkaProducer<byte[], byte[]> producer;
        /** Answers after this are the client's own. */
        volatile boolean closing = false;
        long sent = 0;
        long transactions = 0;

        Load(String[] arguments, int first, String acks, boolean transactional) {
            brokers = arguments[0];
            number = Long.parseLong(arguments[first]);
            topic = arguments[first + 1];
            partitions = Integer.parseInt(arguments[first + 2]);
            this.acks = acks;
            this.transactional = transactional;
            random = new Random(number);
        }

        KafkaProducer<byte[], byte[]> create() {
            Properties settings = new Properties();
            settings.put("bootstrap.servers", brokers);
            settings.put("acks", acks);
            settings.put("enable.idempotence", Boolean.toString(acks.equals("all")));
            settings.put("linger.ms", "1");
            settings.put("reconnect.backoff.ms", "5");
            settings.put("reconnect.backoff.max.ms", "20");
            settings.put("retry.backoff.ms", "5");
            settings.put("retry.backoff.max.ms", "20");
            settings.put("request.timeout.ms", "20000");
            settings.put("delivery.timeout.ms", "120000");
            settings.put("max.block.ms", "30000");
            if (transactional) {
                settings.put("transactional.id", "crash-java-" + number);
            }
            while (true) {
                KafkaProducer<byte[], byte[]> made =
                    new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
                try {
                    if (transactional) {
                        made.initTransactions();
                    }
                    return made;
                } catch (KafkaException error) {
                    failed("E", number << 40, error);
                    made.close(Duration.ZERO);
                }
            }
        }

        void failed(String how, long id, Exception error) {
            say(how + " " + id + " " + error.getClass().getSimpleName());
            System.err.println(topic + ": " + error);
        }

        void replace(KafkaException fatal) {
            failed("F", number << 40, fatal);
            closing = true;
            producer.close(Duration.ZERO);
            closing = false;
            producer = create();
        }

        void run() {
            producer = create();
            while (!stopping) {
                if (sent >= budget) {
                    Thread.onSpinWait();
                    java.util.concurrent.locks.LockSupport.parkNanos(2_000_000);
                } else if (transactional) {
                    runTransaction();
                } else {
                    try {
                        send("-");
                    } catch (KafkaException fatal) {
                        replace(fatal);
                    }
                }
            }
            producer.close(Duration.ofSeconds(60));
        }

        void send(String transaction) {
            long id = (number << 40) + sent;
            int partition = (int) (sent % partitions);
            long key = sent % 500;
            sent++;
            say("S " + id + " " + partition + " " + key + " " + transaction);
            byte[] name = ("k" + key).getBytes(StandardCharsets.US_ASCII);
            producer.send(new ProducerRecord<>(topic, partition, name, value(id)), (where, error) -> {
                if (error == null) {
                    say("A " + id + " " + where.offset());
                } else if (!closing) {
                    failed("E", id, error);
                }
            });
        }

        void runTransaction() {
            long transaction = (number << 40) + transactions++;
            say("T " + transaction + " U");
            boolean abort = random.nextInt(4) == 0;
            try {
                producer.beginTransaction();
                for (int left = 1 + random.nextInt(12); left > 0; left--) {
                    send(Long.toString(transaction));
                }
                // Without this the end may overtake them: the client's own thread looks for batches, and then, without
                // looking again, for what is to be sent next.
                producer.flush();
                end(abort);
                say("T " + transaction + (abort ? " A" : " C"));
            } catch (KafkaException error) {
                giveUp(transaction, error);
            }
        }

        void end(boolean abort) {
            while (true) {
                try {
                    if (abort) {
                        producer.abortTransaction();
                    } else {
                        producer.commitTransaction();
                    }
                    return;
                } catch (TimeoutException again) {
                    failed("E", number << 40, again);
                }
            }
        }

        /** Aborts if the client may; else another takes its place, and the outcome is not known. */
        void giveUp(long transaction, KafkaException error) {
            failed("E", number << 40, error);
            try {
                end(true);
                say("T " + transaction + " A");
            } catch (KafkaException fatal) {
                replace(fatal);
            }
        }
    }
}
