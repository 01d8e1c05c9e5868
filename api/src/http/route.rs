//! Every route of the interface, in one list that the router, the metrics and the OpenAPI document follow.

use http::Method;

macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident = $method:ident $path:literal;)*) => {
        /// A route: a method and a path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Route {
            $($(#[$doc])* $name,)*
        }

        impl Route {
            /// Every route.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its method.
            pub const fn method(self) -> Method {
                match self {
                    $(Self::$name => Method::$method,)*
                }
            }

            /// Its path, with parameters in braces.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }
        }
    };
}

routes! {
    /// Links to everything else.
    Index = GET "/";
    /// Whether the process is alive.
    Health = GET "/healthz";
    /// Whether requests would be carried out.
    Ready = GET "/readyz";
    /// Metrics.
    Metrics = GET "/metrics";
    /// The OpenAPI document.
    OpenApi = GET "/openapi.json";
    /// The cluster, this node, its regions and shards.
    Cluster = GET "/v1/cluster";
    /// The regions, and how far each shard has come in each.
    Regions = GET "/v1/regions";
    /// Changes which regions there are.
    ChangeRegions = PUT "/v1/regions";
    /// The shards: their leaders, partitions and regions.
    Shards = GET "/v1/shards";
    /// How the compactor comes on.
    Compactor = GET "/v1/compactor";
    /// Has everything archived, merged and deleted that can be.
    RunCompactor = POST "/v1/compactor/run";
    /// What this node is to a shard, from memory: what nodes ask each other.
    Lease = GET "/v1/shards/{shard}/lease";
    /// Tells a leader that it was deposed; it finds out by itself.
    Deposed = POST "/v1/shards/{shard}/deposed";
    /// Topics, paged.
    ListTopics = GET "/v1/topics";
    /// Creates a topic.
    CreateTopic = PUT "/v1/topics/{topic}";
    /// A topic with its partitions.
    GetTopic = GET "/v1/topics/{topic}";
    /// Changes settings of a topic.
    AlterTopic = PATCH "/v1/topics/{topic}";
    /// Deletes a topic.
    DeleteTopic = DELETE "/v1/topics/{topic}";
    /// Archive files of a topic, paged.
    ListFiles = GET "/v1/topics/{topic}/files";
    /// Publishes messages.
    Publish = POST "/v1/topics/{topic}/messages";
    /// Reads messages of a partition.
    Read = GET "/v1/topics/{topic}/messages";
    /// Subscriptions of a topic.
    ListSubscriptions = GET "/v1/topics/{topic}/subscriptions";
    /// Creates a subscription.
    CreateSubscription = PUT "/v1/topics/{topic}/subscriptions/{subscription}";
    /// A subscription with its positions.
    GetSubscription = GET "/v1/topics/{topic}/subscriptions/{subscription}";
    /// Changes or moves a subscription.
    AlterSubscription = PATCH "/v1/topics/{topic}/subscriptions/{subscription}";
    /// Deletes a subscription.
    DeleteSubscription = DELETE "/v1/topics/{topic}/subscriptions/{subscription}";
    /// Receives messages of a subscription.
    Poll = POST "/v1/topics/{topic}/subscriptions/{subscription}/poll";
    /// Commits positions of a subscription.
    Commit = POST "/v1/topics/{topic}/subscriptions/{subscription}/commit";
    /// Members of a subscription, with what they read.
    ListMembers = GET "/v1/topics/{topic}/subscriptions/{subscription}/members";
    /// A member joins or lives, and is told what to read.
    Heartbeat = POST "/v1/topics/{topic}/subscriptions/{subscription}/members/{member}";
    /// A member goes.
    LeaveMembers = DELETE "/v1/topics/{topic}/subscriptions/{subscription}/members/{member}";
    /// Acknowledges messages of a queue.
    Ack = POST "/v1/topics/{topic}/subscriptions/{subscription}/ack";
    /// Gives messages of a queue back.
    Nack = POST "/v1/topics/{topic}/subscriptions/{subscription}/nack";
    /// Extends the time of messages of a queue.
    Extend = POST "/v1/topics/{topic}/subscriptions/{subscription}/extend";
    /// Makes messages of a queue dead letters.
    Reject = POST "/v1/topics/{topic}/subscriptions/{subscription}/reject";
    /// Dead letters of a queue, paged.
    DeadLetters = GET "/v1/topics/{topic}/subscriptions/{subscription}/dead-letters";
    /// Gives dead letters back.
    Redrive = POST "/v1/topics/{topic}/subscriptions/{subscription}/dead-letters/redrive";
    /// Forgets dead letters.
    PurgeDeadLetters = POST "/v1/topics/{topic}/subscriptions/{subscription}/dead-letters/purge";
    /// Transactions that wait for a decision, paged.
    ListTransactions = GET "/v1/transactions";
    /// Publishes and acknowledges together, or prepares to.
    Transact = POST "/v1/transactions";
    /// What has become of a transaction.
    GetTransaction = GET "/v1/transactions/{transaction}";
    /// Lets a prepared transaction take effect.
    CommitTransaction = POST "/v1/transactions/{transaction}/commit";
    /// Gives a prepared transaction up.
    RollBackTransaction = POST "/v1/transactions/{transaction}/rollback";
}

impl Route {
    /// Whether it may change something that is stored. A poll does not: what it delivers to nobody comes again.
    pub fn changes(self) -> bool {
        let in_memory = matches!(self, Self::Poll | Self::Deposed | Self::Heartbeat | Self::LeaveMembers);
        self.method() != Method::GET && !in_memory
    }
}
