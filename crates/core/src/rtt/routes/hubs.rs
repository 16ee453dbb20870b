//! The world's trunk network, roughly: places where long-distance cables meet, and which of them are
//! linked. Common knowledge of public cable maps and exchange points, to about a tenth of a degree; it
//! is meant to get the shape of the Internet right, not to be complete.

/// Names, latitudes and longitudes (degrees) of all hubs, and an enumeration of them.
macro_rules! hubs {
    ($($name:ident $lat:literal $lon:literal;)*) => {
        /// A place where long-distance cables meet, named after a city.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "names of cities")]
        pub enum Hub { $($name),* }

        impl Hub {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [Hub] = &[$(Hub::$name),*];

            /// The city's name.
            pub fn name(self) -> &'static str {
                match self { $(Hub::$name => stringify!($name)),* }
            }

            /// Latitude and longitude in degrees.
            pub(super) fn degrees(self) -> (f64, f64) {
                match self { $(Hub::$name => ($lat, $lon)),* }
            }
        }
    };
}

hubs! {
    London 51.5 -0.1;
    Amsterdam 52.4 4.9;
    Frankfurt 50.1 8.7;
    Paris 48.9 2.3;
    Marseille 43.3 5.4;
    Madrid 40.4 -3.7;
    Lisbon 38.7 -9.1;
    Milan 45.5 9.2;
    Palermo 38.1 13.4;
    Vienna 48.2 16.4;
    Sofia 42.7 23.3;
    Athens 38.0 23.7;
    Istanbul 41.0 29.0;
    Bucharest 44.4 26.1;
    Warsaw 52.2 21.0;
    Kyiv 50.5 30.5;
    Copenhagen 55.7 12.6;
    Stockholm 59.3 18.1;
    Helsinki 60.2 24.9;
    Oslo 59.9 10.8;
    Dublin 53.3 -6.3;
    Reykjavik 64.1 -21.9;
    Moscow 55.8 37.6;
    Yekaterinburg 56.8 60.6;
    Novosibirsk 55.0 82.9;
    Khabarovsk 48.5 135.1;
    Almaty 43.2 76.9;
    Tashkent 41.3 69.2;
    Tbilisi 41.7 44.8;
    Tehran 35.7 51.4;
    Alexandria 31.2 29.9;
    TelAviv 32.1 34.8;
    Cyprus 34.9 33.6;
    Jeddah 21.5 39.2;
    Djibouti 11.6 43.1;
    Dubai 25.2 55.3;
    Karachi 24.9 67.0;
    Mumbai 19.1 72.9;
    Delhi 28.6 77.2;
    Chennai 13.1 80.3;
    Colombo 6.9 79.9;
    Dhaka 23.8 90.4;
    Yangon 16.8 96.2;
    Bangkok 13.8 100.5;
    Singapore 1.35 103.8;
    KualaLumpur 3.1 101.7;
    Jakarta -6.2 106.8;
    HoChiMinh 10.8 106.7;
    Hanoi 21.0 105.8;
    PhnomPenh 11.6 104.9;
    Manila 14.6 121.0;
    HongKong 22.3 114.2;
    Guangzhou 23.1 113.3;
    Shanghai 31.2 121.5;
    Beijing 39.9 116.4;
    Taipei 25.0 121.5;
    Tokyo 35.7 139.7;
    Seoul 37.6 127.0;
    Guam 13.5 144.8;
    Perth -31.95 115.9;
    Adelaide -34.9 138.6;
    Sydney -33.9 151.2;
    Melbourne -37.8 145.0;
    Auckland -36.8 174.8;
    Suva -18.1 178.4;
    Honolulu 21.3 -157.9;
    LosAngeles 34.05 -118.2;
    SanJose 37.3 -121.9;
    Seattle 47.6 -122.3;
    Denver 39.7 -105.0;
    Dallas 32.8 -96.8;
    Chicago 41.9 -87.6;
    Atlanta 33.7 -84.4;
    Ashburn 39.0 -77.5;
    NewYork 40.7 -74.0;
    Boston 42.4 -71.1;
    Miami 25.8 -80.2;
    Toronto 43.7 -79.4;
    Montreal 45.5 -73.6;
    Halifax 44.6 -63.6;
    Anchorage 61.2 -149.9;
    Mexico 19.4 -99.1;
    Guatemala 14.6 -90.5;
    Panama 9.0 -79.5;
    Bogota 4.7 -74.1;
    Caracas 10.5 -66.9;
    PuertoRico 18.4 -66.1;
    Quito -0.2 -78.5;
    Lima -12.0 -77.0;
    Santiago -33.4 -70.7;
    BuenosAires -34.6 -58.4;
    Montevideo -34.9 -56.2;
    SaoPaulo -23.5 -46.6;
    RioDeJaneiro -22.9 -43.2;
    Fortaleza -3.7 -38.5;
    Casablanca 33.6 -7.6;
    Algiers 36.8 3.1;
    Tunis 36.8 10.2;
    Dakar 14.7 -17.5;
    Accra 5.6 -0.2;
    Lagos 6.5 3.4;
    Luanda -8.8 13.2;
    CapeTown -33.9 18.4;
    Johannesburg -26.2 28.0;
    Maputo -26.0 32.6;
    DarEsSalaam -6.8 39.3;
    Mombasa -4.0 39.7;
    Nairobi -1.3 36.8;
    Mauritius -20.2 57.5;
    Kinshasa -4.3 15.3;
}

/// Which hubs have a cable or a well-built land route between them.
pub(super) const LINKS: &[(Hub, Hub)] = &[
    (Hub::London, Hub::Amsterdam),
    (Hub::London, Hub::Paris),
    (Hub::Marseille, Hub::London),
    (Hub::Lisbon, Hub::London),
    (Hub::London, Hub::Dublin),
    (Hub::Reykjavik, Hub::London),
    (Hub::NewYork, Hub::London),
    (Hub::Halifax, Hub::London),
    (Hub::Amsterdam, Hub::Frankfurt),
    (Hub::Amsterdam, Hub::Copenhagen),
    (Hub::Moscow, Hub::Amsterdam),
    (Hub::NewYork, Hub::Amsterdam),
    (Hub::Paris, Hub::Frankfurt),
    (Hub::Milan, Hub::Frankfurt),
    (Hub::Frankfurt, Hub::Vienna),
    (Hub::Frankfurt, Hub::Warsaw),
    (Hub::Frankfurt, Hub::Copenhagen),
    (Hub::Frankfurt, Hub::Moscow),
    (Hub::Paris, Hub::Marseille),
    (Hub::Paris, Hub::Madrid),
    (Hub::NewYork, Hub::Paris),
    (Hub::Marseille, Hub::Milan),
    (Hub::Palermo, Hub::Marseille),
    (Hub::Marseille, Hub::Alexandria),
    (Hub::TelAviv, Hub::Marseille),
    (Hub::Cyprus, Hub::Marseille),
    (Hub::Marseille, Hub::Algiers),
    (Hub::Marseille, Hub::Tunis),
    (Hub::Madrid, Hub::Lisbon),
    (Hub::Ashburn, Hub::Madrid),
    (Hub::Madrid, Hub::Casablanca),
    (Hub::Fortaleza, Hub::Lisbon),
    (Hub::Lisbon, Hub::Casablanca),
    (Hub::Lisbon, Hub::Dakar),
    (Hub::Accra, Hub::Lisbon),
    (Hub::Lagos, Hub::Lisbon),
    (Hub::Palermo, Hub::Milan),
    (Hub::Milan, Hub::Vienna),
    (Hub::Athens, Hub::Milan),
    (Hub::Palermo, Hub::Athens),
    (Hub::Palermo, Hub::Alexandria),
    (Hub::Palermo, Hub::Tunis),
    (Hub::Vienna, Hub::Sofia),
    (Hub::Vienna, Hub::Bucharest),
    (Hub::Vienna, Hub::Warsaw),
    (Hub::Sofia, Hub::Athens),
    (Hub::Sofia, Hub::Istanbul),
    (Hub::Sofia, Hub::Bucharest),
    (Hub::Athens, Hub::Istanbul),
    (Hub::Athens, Hub::Cyprus),
    (Hub::Bucharest, Hub::Istanbul),
    (Hub::Istanbul, Hub::Tbilisi),
    (Hub::Istanbul, Hub::Tehran),
    (Hub::Kyiv, Hub::Bucharest),
    (Hub::Warsaw, Hub::Kyiv),
    (Hub::Copenhagen, Hub::Stockholm),
    (Hub::Copenhagen, Hub::Oslo),
    (Hub::Reykjavik, Hub::Copenhagen),
    (Hub::NewYork, Hub::Copenhagen),
    (Hub::Stockholm, Hub::Helsinki),
    (Hub::Oslo, Hub::Stockholm),
    (Hub::Stockholm, Hub::Moscow),
    (Hub::Helsinki, Hub::Moscow),
    (Hub::Boston, Hub::Dublin),
    (Hub::Moscow, Hub::Yekaterinburg),
    (Hub::Tbilisi, Hub::Moscow),
    (Hub::Yekaterinburg, Hub::Novosibirsk),
    (Hub::Yekaterinburg, Hub::Almaty),
    (Hub::Novosibirsk, Hub::Khabarovsk),
    (Hub::Almaty, Hub::Novosibirsk),
    (Hub::Khabarovsk, Hub::Tokyo),
    (Hub::Almaty, Hub::Tashkent),
    (Hub::Tbilisi, Hub::Tehran),
    (Hub::Tehran, Hub::Dubai),
    (Hub::Cyprus, Hub::Alexandria),
    (Hub::Alexandria, Hub::Jeddah),
    (Hub::Cyprus, Hub::TelAviv),
    (Hub::Jeddah, Hub::Djibouti),
    (Hub::Jeddah, Hub::Dubai),
    (Hub::Djibouti, Hub::Dubai),
    (Hub::Djibouti, Hub::Mumbai),
    (Hub::Djibouti, Hub::Mombasa),
    (Hub::Dubai, Hub::Karachi),
    (Hub::Dubai, Hub::Mumbai),
    (Hub::Mombasa, Hub::Dubai),
    (Hub::Karachi, Hub::Mumbai),
    (Hub::Mumbai, Hub::Delhi),
    (Hub::Mumbai, Hub::Chennai),
    (Hub::Mumbai, Hub::Colombo),
    (Hub::Singapore, Hub::Mumbai),
    (Hub::Mombasa, Hub::Mumbai),
    (Hub::Mauritius, Hub::Mumbai),
    (Hub::Delhi, Hub::Chennai),
    (Hub::Dhaka, Hub::Delhi),
    (Hub::Chennai, Hub::Colombo),
    (Hub::Dhaka, Hub::Chennai),
    (Hub::Chennai, Hub::Singapore),
    (Hub::Colombo, Hub::Singapore),
    (Hub::Dhaka, Hub::Singapore),
    (Hub::Yangon, Hub::Bangkok),
    (Hub::Yangon, Hub::Singapore),
    (Hub::Bangkok, Hub::Singapore),
    (Hub::Bangkok, Hub::KualaLumpur),
    (Hub::Bangkok, Hub::PhnomPenh),
    (Hub::KualaLumpur, Hub::Singapore),
    (Hub::Singapore, Hub::Jakarta),
    (Hub::Singapore, Hub::HoChiMinh),
    (Hub::PhnomPenh, Hub::Singapore),
    (Hub::Singapore, Hub::Manila),
    (Hub::Singapore, Hub::HongKong),
    (Hub::Singapore, Hub::Perth),
    (Hub::Jakarta, Hub::Perth),
    (Hub::HoChiMinh, Hub::Hanoi),
    (Hub::PhnomPenh, Hub::HoChiMinh),
    (Hub::HoChiMinh, Hub::HongKong),
    (Hub::Hanoi, Hub::HongKong),
    (Hub::Manila, Hub::HongKong),
    (Hub::Manila, Hub::Tokyo),
    (Hub::Manila, Hub::Guam),
    (Hub::HongKong, Hub::Guangzhou),
    (Hub::HongKong, Hub::Taipei),
    (Hub::HongKong, Hub::Tokyo),
    (Hub::HongKong, Hub::LosAngeles),
    (Hub::Guangzhou, Hub::Shanghai),
    (Hub::Guangzhou, Hub::Beijing),
    (Hub::Shanghai, Hub::Beijing),
    (Hub::Taipei, Hub::Shanghai),
    (Hub::Shanghai, Hub::Tokyo),
    (Hub::Shanghai, Hub::Seoul),
    (Hub::Shanghai, Hub::Seattle),
    (Hub::Taipei, Hub::Tokyo),
    (Hub::Taipei, Hub::LosAngeles),
    (Hub::Seoul, Hub::Tokyo),
    (Hub::Tokyo, Hub::Guam),
    (Hub::Tokyo, Hub::LosAngeles),
    (Hub::Tokyo, Hub::SanJose),
    (Hub::Tokyo, Hub::Seattle),
    (Hub::Guam, Hub::Sydney),
    (Hub::Guam, Hub::Honolulu),
    (Hub::Perth, Hub::Adelaide),
    (Hub::Adelaide, Hub::Melbourne),
    (Hub::Melbourne, Hub::Sydney),
    (Hub::Sydney, Hub::Auckland),
    (Hub::Sydney, Hub::Suva),
    (Hub::Sydney, Hub::Honolulu),
    (Hub::Sydney, Hub::LosAngeles),
    (Hub::Auckland, Hub::Honolulu),
    (Hub::Auckland, Hub::LosAngeles),
    (Hub::Suva, Hub::Honolulu),
    (Hub::Honolulu, Hub::LosAngeles),
    (Hub::Honolulu, Hub::SanJose),
    (Hub::LosAngeles, Hub::SanJose),
    (Hub::LosAngeles, Hub::Dallas),
    (Hub::Mexico, Hub::LosAngeles),
    (Hub::SanJose, Hub::Seattle),
    (Hub::SanJose, Hub::Denver),
    (Hub::Seattle, Hub::Denver),
    (Hub::Seattle, Hub::Chicago),
    (Hub::Seattle, Hub::Anchorage),
    (Hub::Denver, Hub::Dallas),
    (Hub::Denver, Hub::Chicago),
    (Hub::Dallas, Hub::Chicago),
    (Hub::Dallas, Hub::Atlanta),
    (Hub::Dallas, Hub::Mexico),
    (Hub::Chicago, Hub::Ashburn),
    (Hub::Chicago, Hub::NewYork),
    (Hub::Chicago, Hub::Toronto),
    (Hub::Atlanta, Hub::Ashburn),
    (Hub::Atlanta, Hub::Miami),
    (Hub::Ashburn, Hub::NewYork),
    (Hub::Ashburn, Hub::Miami),
    (Hub::NewYork, Hub::Boston),
    (Hub::NewYork, Hub::Miami),
    (Hub::NewYork, Hub::Toronto),
    (Hub::NewYork, Hub::Montreal),
    (Hub::Fortaleza, Hub::NewYork),
    (Hub::Boston, Hub::Halifax),
    (Hub::Guatemala, Hub::Miami),
    (Hub::Panama, Hub::Miami),
    (Hub::Bogota, Hub::Miami),
    (Hub::Caracas, Hub::Miami),
    (Hub::PuertoRico, Hub::Miami),
    (Hub::Fortaleza, Hub::Miami),
    (Hub::Toronto, Hub::Montreal),
    (Hub::Montreal, Hub::Halifax),
    (Hub::Mexico, Hub::Guatemala),
    (Hub::Guatemala, Hub::Panama),
    (Hub::Panama, Hub::Bogota),
    (Hub::Caracas, Hub::Panama),
    (Hub::Panama, Hub::Lima),
    (Hub::Bogota, Hub::Quito),
    (Hub::PuertoRico, Hub::Caracas),
    (Hub::Fortaleza, Hub::PuertoRico),
    (Hub::Quito, Hub::Lima),
    (Hub::Lima, Hub::Santiago),
    (Hub::Santiago, Hub::BuenosAires),
    (Hub::BuenosAires, Hub::Montevideo),
    (Hub::BuenosAires, Hub::SaoPaulo),
    (Hub::Montevideo, Hub::SaoPaulo),
    (Hub::SaoPaulo, Hub::RioDeJaneiro),
    (Hub::SaoPaulo, Hub::Fortaleza),
    (Hub::RioDeJaneiro, Hub::Fortaleza),
    (Hub::Luanda, Hub::Fortaleza),
    (Hub::Dakar, Hub::Accra),
    (Hub::Accra, Hub::Lagos),
    (Hub::Lagos, Hub::Luanda),
    (Hub::Luanda, Hub::CapeTown),
    (Hub::Kinshasa, Hub::Luanda),
    (Hub::CapeTown, Hub::Johannesburg),
    (Hub::Johannesburg, Hub::Maputo),
    (Hub::Mauritius, Hub::Johannesburg),
    (Hub::Maputo, Hub::DarEsSalaam),
    (Hub::DarEsSalaam, Hub::Mombasa),
    (Hub::Mombasa, Hub::Nairobi),
];
